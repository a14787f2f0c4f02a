//! The script language.

use super::alloc::Wanted;

/// An extent as a script names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Which {
    /// By the name that it was allocated under.
    Name(String),
    /// By its offset on the device, in bytes.
    Offset(u64),
}

/// A command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Command {
    Begin,
    Alloc(Wanted),
    Free(Which),
    Resize { name: String, bytes: u64 },
    Write { name: String, text: String },
    Put { name: String, text: String },
    Read { name: String, len: u64 },
    Commit,
    Abort,
    Checkpoint,
    Stat,
    List,
    Areas,
    Crash,
    Exit,
}

/// What a line is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Parsed {
    /// Blank, or a comment.
    Nothing,
    /// A command.
    Command(Command),
    /// Something else.
    Bad { op: String, message: String },
}

fn word(text: &str) -> (&str, &str) {
    let text = text.trim_start();
    let end = text.find(char::is_whitespace).unwrap_or(text.len());
    text.split_at_checked(end).unwrap_or((text, ""))
}

impl Command {
    /// The word that the command begins with.
    pub(super) fn op(&self) -> &'static str {
        match self {
            Self::Begin => "begin",
            Self::Alloc(_) => "alloc",
            Self::Free(_) => "free",
            Self::Resize { .. } => "resize",
            Self::Write { .. } => "write",
            Self::Put { .. } => "put",
            Self::Read { .. } => "read",
            Self::Commit => "commit",
            Self::Abort => "abort",
            Self::Checkpoint => "checkpoint",
            Self::Stat => "stat",
            Self::List => "list",
            Self::Areas => "areas",
            Self::Crash => "crash",
            Self::Exit => "exit",
        }
    }

    pub(super) fn parse(line: &[u8]) -> Parsed {
        let bad = |op: &str, message: &str| Parsed::Bad { op: op.to_owned(), message: message.to_owned() };
        let Ok(line) = std::str::from_utf8(line) else {
            let op = String::from_utf8_lossy(line);
            return bad(word(&op).0, "the line is not UTF-8");
        };
        let line = line.strip_suffix('\n').unwrap_or(line);
        let line = line.strip_suffix('\r').unwrap_or(line);
        let (op, rest) = word(line);
        if op.is_empty() || op.starts_with('#') {
            return Parsed::Nothing;
        }
        match Self::parse_words(op, rest) {
            Ok(command) => Parsed::Command(command),
            Err(message) => bad(op, &message),
        }
    }

    fn parse_words(op: &str, rest: &str) -> Result<Self, String> {
        if op == "write" || op == "put" {
            let (name, text) = word(rest);
            // One blank separates; the rest is text as it is, '#' included.
            let text = text.strip_prefix(char::is_whitespace).unwrap_or(text);
            if text.is_empty() {
                return Err(format!("expected: {op} NAME TEXT"));
            }
            let (name, text) = (self::name(name)?, text.to_owned());
            return Ok(if op == "write" { Self::Write { name, text } } else { Self::Put { name, text } });
        }
        let words: Vec<&str> = rest.split_whitespace().take_while(|word| !word.starts_with('#')).collect();
        match (op, words.as_slice()) {
            ("begin", []) => Ok(Self::Begin),
            ("alloc", words) => Wanted::parse(words).map(Self::Alloc),
            ("free", [which]) => Self::free(which),
            ("resize", [name, bytes]) => Ok(Self::Resize { name: self::name(name)?, bytes: size(bytes)? }),
            ("read", [name, len]) => Ok(Self::Read { name: self::name(name)?, len: size(len)? }),
            ("commit", []) => Ok(Self::Commit),
            ("abort", []) => Ok(Self::Abort),
            ("checkpoint", []) => Ok(Self::Checkpoint),
            ("stat", []) => Ok(Self::Stat),
            ("list", []) => Ok(Self::List),
            ("areas", []) => Ok(Self::Areas),
            ("crash", []) => Ok(Self::Crash),
            ("exit", []) => Ok(Self::Exit),
            ("free", _) => Err("expected: free NAME, or free @OFFSET".to_owned()),
            ("resize", _) => Err("expected: resize NAME BYTES".to_owned()),
            ("read", _) => Err("expected: read NAME LEN".to_owned()),
            (
                "begin" | "commit" | "abort" | "checkpoint" | "stat" | "list" | "areas" | "crash" | "exit",
                _,
            ) => Err(format!("{op} takes nothing")),
            _ => Err("unknown command; see 'freehold exec --help'".to_owned()),
        }
    }

    fn free(which: &str) -> Result<Self, String> {
        match which.strip_prefix('@') {
            Some(offset) => offset
                .parse()
                .map(|offset| Self::Free(Which::Offset(offset)))
                .map_err(|_| format!("'{which}': expected @ and an offset in bytes")),
            None => Ok(Self::Free(Which::Name(name(which)?))),
        }
    }
}

/// A name that a script may give.
pub(super) fn name(word: &str) -> Result<String, String> {
    match word.chars().next() {
        None | Some('@' | '#') => Err(format!("'{word}' cannot be a name")),
        Some(_) => Ok(word.to_owned()),
    }
}

/// Any 64-bit number of bytes, or a size with a unit. What no device can hold is for the store to refuse.
pub(super) fn size(text: &str) -> Result<u64, String> {
    text.parse().or_else(|_| crate::size::parse(text)).map_err(|reason| format!("'{text}': {reason}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn good(line: &str) -> Command {
        match Command::parse(line.as_bytes()) {
            Parsed::Command(command) => command,
            other => panic!("{line}: {other:?}"),
        }
    }

    #[test]
    fn lines_become_commands() {
        assert_eq!(good("  begin # now\n"), Command::Begin);
        let wanted =
            |bytes, owner| Command::Alloc(Wanted { name: "a".to_owned(), bytes, owner, ..Wanted::default() });
        assert_eq!(good("alloc a 4096"), wanted(4096, 0));
        assert_eq!(good("alloc a 4KiB 7\r\n"), wanted(4096, 7));
        assert_eq!(good(&format!("alloc a {} # huge", u64::MAX)), wanted(u64::MAX, 0));
        assert_eq!(good("resize a 8KiB"), Command::Resize { name: "a".to_owned(), bytes: 8192 });
        assert_eq!(good("areas"), Command::Areas);
        assert_eq!(good("free @8192"), Command::Free(Which::Offset(8192)));
        let text = " two  words # and more ".to_owned();
        assert_eq!(good(&format!("put a {text}\n")), Command::Put { name: "a".to_owned(), text });
    }

    #[test]
    fn comments_are_nothing_and_nonsense_is_refused() {
        for line in ["", "\n", "   ", "# alloc a 1", "  #"] {
            assert_eq!(Command::parse(line.as_bytes()), Parsed::Nothing, "{line:?}");
        }
        for line in [
            "alloc",
            "alloc a",
            "alloc a x",
            "alloc a -1",
            "alloc a 1 x",
            "alloc a 1 2 3",
            "alloc @a 1",
            "free",
            "free a b",
            "free @",
            "free @x",
            "write a",
            "write",
            "put a ",
            "read a",
            "begin now",
            "areas a",
            "resize a",
            "resize a x",
            "resize @1 1",
            "frobnicate",
            "alloc a 99999999999999999999",
        ] {
            assert!(matches!(Command::parse(line.as_bytes()), Parsed::Bad { .. }), "{line:?}");
        }
        assert!(matches!(Command::parse(b"put a \xff"), Parsed::Bad { op, .. } if op == "put"));
    }
}
