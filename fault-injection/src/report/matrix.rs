//! The table of faults.

use super::MatrixRow;
use super::html::{Column, escape, figure, table};
use super::number::{count, length};

const COLUMNS: [Column; 8] = [
    Column::Text("fault"),
    Column::Text("what goes wrong"),
    Column::Number("injected"),
    Column::Number("recovered"),
    Column::Number("detected"),
    Column::Number("survived"),
    Column::Number("silent"),
    Column::Text("remark"),
];

/// Shows what became of each fault.
pub(super) fn section(rows: &[MatrixRow]) -> String {
    if rows.is_empty() {
        return String::new();
    }
    let body: String = rows.iter().map(row_html).collect();
    let exercised = count(length(rows.iter().filter(|row| !is_idle(row))));
    let silent = rows.iter().fold(0u64, |sum, row| sum.saturating_add(row.silent));
    let verdict = if silent == 0 {
        "nothing was silently wrong".to_owned()
    } else {
        format!("<strong class=\"alarm\">{} silently wrong</strong>", count(silent))
    };
    let intro = format!(
        "<p>{exercised} of {} kinds of fault were injected in this run; {verdict}. <b>Recovered</b>: the \
         store came back with what had been committed. <b>Detected</b>: it refused by a typed error. \
         <b>Survived</b>: it went on working and lost nothing. <b>Silent</b>: the result was wrong and \
         nothing said so, which must never happen.</p>\n",
        count(length(rows))
    );
    let caption = "The stronger the tint of a cell, the larger the share of the row's injections that ended \
                   so. Anything but a zero under “silent” is red; faults that this run did not inject are \
                   grey.";
    format!("{intro}{}", figure(&table("matrix", &COLUMNS, &body), caption))
}

/// Whether the fault was never injected. A row with a result was, whatever else it says.
pub(super) fn is_idle(row: &MatrixRow) -> bool {
    row.points == 0 && row.recovered == 0 && row.detected == 0 && row.survived == 0 && row.silent == 0
}

fn row_html(row: &MatrixRow) -> String {
    let (id, fault, remark) = (escape(&row.id), escape(&row.fault), escape(&row.remark));
    if is_idle(row) {
        return format!(
            "<tr class=\"idle\"><th scope=\"row\">{id}</th><td>{fault}</td>{}<td>{remark}</td></tr>\n",
            "<td class=\"n\">–</td>".repeat(5)
        );
    }
    let silent = if row.silent == 0 {
        "<td class=\"n\">0</td>".to_owned()
    } else {
        format!("<td class=\"n silent\">{}</td>", count(row.silent))
    };
    format!(
        "<tr><th scope=\"row\">{id}</th><td>{fault}</td><td class=\"n\">{}</td>{}{}{}{silent}<td \
         class=\"remark\">{remark}</td></tr>\n",
        count(row.points),
        heat("recovered", row.recovered, row),
        heat("detected", row.detected, row),
        heat("survived", row.survived, row),
    )
}

/// A cell whose tint shows its share of the row. Text stays readable on the strongest.
fn heat(class: &str, number: u64, row: &MatrixRow) -> String {
    if number == 0 {
        return "<td class=\"n zero\">0</td>".into();
    }
    let whole = row.points.max(row.recovered).max(row.detected).max(row.survived);
    let tint = 0.12 + 0.38 * (number as f64 / whole as f64);
    format!("<td class=\"n heat {class}\" style=\"--tint:{tint:.2}\">{}</td>", count(number))
}
