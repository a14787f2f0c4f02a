//! What the command line shows of a store after a crash, and what `replay` makes of it.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test stops at the first surprise"
)]

mod cli;

use std::fs;

use cli::{Place, code, complains, json, lines, run, script, stdout};
use serde_json::Value;

#[test]
fn a_crash_needs_replay_and_nothing_acknowledged_is_lost() {
    let place = Place::new();
    let path = place.store("store");
    let output = script(
        &path,
        "alloc c 10000 9\nput c journaled text\nbegin\nalloc d 4096\nwrite d lost\ncommit\nbegin\nalloc e 4096\ncrash\nstat\n",
    );
    assert_ne!(code(&output), 0);
    assert_eq!(lines(&output).len(), 8, "{output:?}");
    assert!(lines(&output).iter().all(|answer| answer["ok"] == true));

    let before = fs::read(&path).unwrap();
    assert_eq!(code(&run(&["info", &path])), 4);
    let info = run(&["info", &path, "--json"]);
    assert_eq!((code(&info), &json(&info)["state"]), (4, &"needs_replay".into()));
    assert_eq!(json(&info)["extents"], 4);
    assert_eq!(code(&run(&["check", &path])), 4);
    let check = run(&["check", &path, "--json"]);
    assert_eq!((code(&check), &json(&check)["ok"], &json(&check)["extents"]), (4, &true.into(), &4.into()));
    for args in [&["list", &path][..], &["map", &path], &["journal", &path], &["replay", &path, "--dry-run"]]
    {
        assert_eq!(code(&run(args)), 0, "{args:?}");
    }
    let listed = lines(&run(&["list", &path, "--json"]));
    assert_eq!(listed.len(), 4);
    assert!(listed.iter().any(|extent| extent["owner"] == 9 && extent["bytes"] == 12288));
    for key in ["offset", "bytes", "owner", "generation"] {
        assert!(listed[0][key].is_u64(), "{key}");
    }
    let groups = lines(&run(&["journal", &path, "--json"]));
    assert_eq!(groups.len(), 3);
    assert!(groups.iter().all(|group| group["state"] == "valid" && group["bytes"].as_u64() > Some(64)));
    let dry = json(&run(&["replay", &path, "--dry-run", "--json"]));
    assert_eq!(
        (&dry["records"], &dry["transactions"], &dry["dry_run"]),
        (&3.into(), &3.into(), &true.into())
    );
    assert!(fs::read(&path).unwrap() == before, "looking at a store changed it");

    let done = json(&run(&["replay", &path, "--json"]));
    assert_eq!((&done["records"], &done["dry_run"]), (&3.into(), &false.into()));
    assert!(done["first_lsn"].as_u64() < done["last_lsn"].as_u64());
    assert_eq!(code(&run(&["check", &path])), 0);
    assert_eq!(code(&run(&["info", &path])), 0);
    assert_eq!(lines(&run(&["list", &path, "--json"])), listed);
    assert_eq!(stdout(&run(&["journal", &path, "--json"])), "");
}

#[test]
fn a_torn_tail_is_dropped_and_damage_in_the_middle_is_refused() {
    let place = Place::new();
    let path = place.store("store");
    let list = || stdout(&run(&["list", &path, "--json"])).lines().count();
    script(&path, "alloc c 4096\nalloc d 4096\nalloc e 4096\ncrash\n");
    assert_eq!(list(), 5);
    let whole = fs::read(&path).unwrap();
    let groups = lines(&run(&["journal", &path, "--json"]));
    let offset = |group: &Value| usize::try_from(group["offset"].as_u64().unwrap()).unwrap();

    let mut torn = whole.clone();
    torn[offset(&groups[2]) + 70] ^= 0x55;
    fs::write(&path, &torn).unwrap();
    let report = json(&run(&["check", &path, "--json"]));
    assert_eq!((&report["ok"], &report["torn_tail"]), (&true.into(), &true.into()), "{report}");
    // Damage to a group that was acknowledged looks like this too: nobody can know, and nobody says.
    for args in [&["check", &path][..], &["replay", &path, "--dry-run"]] {
        let text = stdout(&run(args));
        assert!(text.contains("pieces of groups that nothing says were durable"), "{args:?}: {text}");
    }
    let last = lines(&run(&["journal", &path, "--json"])).pop().unwrap();
    assert_eq!((&last["state"], &last["offset"]), (&"torn".into(), &groups[2]["offset"]));
    let output = run(&["replay", &path, "--json"]);
    assert_eq!((code(&output), &json(&output)["torn_tail"]), (0, &true.into()));
    assert_eq!((list(), code(&run(&["check", &path]))), (4, 0));

    let mut rotten = whole;
    rotten[offset(&groups[1]) + 70] ^= 0x55;
    fs::write(&path, &rotten).unwrap();
    for args in [&["check", &path, "--json"][..], &["info", &path, "--json"], &["replay", &path, "--json"]] {
        let output = run(args);
        assert_eq!(code(&output), 3, "{args:?}");
        complains(&output, &format!("{args:?}"));
        let error = json(&output)["errors"][0].clone();
        assert_eq!((&error["kind"], &error["offset"]), (&"journal".into(), &groups[1]["offset"]), "{args:?}");
    }
    // What only the journal says is unknown, and so is what it changes.
    let info = json(&run(&["info", &path, "--json"]));
    let check = json(&run(&["check", &path, "--json"]));
    for key in ["state", "journal_transactions", "torn_tail", "allocated_bytes", "free_bytes", "extents"] {
        assert_eq!((&info[key], &check[key]), (&Value::Null, &Value::Null), "{key}");
    }
    assert_eq!((&info["roles"], &info["last_lsn"]), (&Value::Null, &Value::Null));
    assert_eq!(info["page_bytes"], 4096);
    let text = stdout(&run(&["info", &path]));
    for line in ["state      unknown, the journal is refused", "allocated  unknown", "extents    unknown"] {
        assert!(text.contains(line), "{text}");
    }
    let text = stdout(&run(&["check", &path]));
    assert!(text.contains("corrupt, state unknown: use of space unknown"), "{text}");

    let output = run(&["journal", &path, "--json"]);
    assert_eq!(code(&output), 3);
    let states: Vec<Value> = lines(&output).into_iter().map(|group| group["state"].clone()).collect();
    assert_eq!(states, ["valid", "damaged"]);
    assert_eq!(code(&run(&["exec", &path, "-c", "stat"])), 3);
    assert!(fs::read(&path).unwrap() == rotten);
}

#[test]
fn replay_renews_a_bad_superblock_copy_of_a_clean_store() {
    let place = Place::new();
    let path = place.store("store");
    for copy in [0, 8192_usize] {
        let mut bytes = fs::read(&path).unwrap();
        bytes[copy + 100] ^= 1;
        fs::write(&path, &bytes).unwrap();
        let dry = run(&["replay", &path, "--dry-run"]);
        assert_eq!(code(&dry), 0);
        assert!(
            stdout(&dry).contains(&format!("would renew the superblock copy at offset {copy},")),
            "{dry:?}"
        );
        assert!(fs::read(&path).unwrap() == bytes);

        let output = run(&["replay", &path, "--json"]);
        assert_eq!((code(&output), &json(&output)["renewed_superblock"]), (0, &copy.into()), "{output:?}");
        let report = json(&run(&["check", &path, "--json"]));
        assert_eq!((&report["ok"], &report["state"]), (&true.into(), &"clean".into()));
        assert_eq!(report["warnings"].as_array().unwrap().len(), 0, "{report}");
        let again = run(&["replay", &path]);
        assert_eq!(stdout(&again), "nothing to do: the store was closed in order\n");
    }
}
