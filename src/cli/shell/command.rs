//! The shell's commands, and how a line becomes one.
//!
//! What words are: see `words.rs`.

use crate::cli::error::{CliError, Result};
use crate::cli::words::words;
use crate::fs::tree::TreePath;
use serde::{Deserialize, Serialize};

/// What the commands do.
pub const HELP: &str = "\
Commands:
  fill A B        put value1000 under 1000 and so on, for the numbers from A to B
  put PATH VALUE  store a value under a path
  get PATH        print the value of a path
  del PATH        remove a path
  scan [A [B]]    print the paths and values from path A to path B
  ls [PATH]       list a directory
  flush           write all memtables out as tables
  compact         merge all tables down to the deepest level
  dump            show the engine's structure: log, memtables, levels, tables with their key ranges
  dump keys       show every record in it
  stats [json]    show figures: what was read and written since the start, at what cost, how fast
  help            show this
  quit, exit      leave; the end of the input does it too

Words with blanks are quoted: put \"a b\" \"c d\". Escapes as in what scan prints: \\n \\t \\\\ \\x00.
";

/// A command.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Command {
    Fill { from: u64, to: u64 },
    Put { path: TreePath, value: Vec<u8> },
    Get { path: TreePath },
    Del { path: TreePath },
    Scan { from: Option<TreePath>, to: Option<TreePath> },
    Ls { path: TreePath },
    Flush,
    Compact,
    Dump { keys: bool },
    Stats { json: bool },
    Help,
    Quit,
}

impl Command {
    /// The command of a line; `None` if there is none in it.
    pub fn parse(line: &[u8]) -> Result<Option<Command>> {
        let words = words(line).map_err(|what| CliError::Refused(what.to_string()))?;
        let words: Vec<&[u8]> = words.iter().map(Vec::as_slice).collect();
        let Some((name, arguments)) = words.split_first() else { return Ok(None) };
        Command::of(name, arguments).map(Some)
    }

    fn of(name: &[u8], arguments: &[&[u8]]) -> Result<Command> {
        Ok(match (name, arguments) {
            (b"fill", [from, to]) => fill(number(from)?, number(to)?)?,
            (b"put", [path, value]) => Command::Put { path: TreePath::parse(path)?, value: value.to_vec() },
            (b"get", [path]) => Command::Get { path: TreePath::parse(path)? },
            (b"del", [path]) => Command::Del { path: TreePath::parse(path)? },
            (b"scan", []) => Command::Scan { from: None, to: None },
            (b"scan", [from]) => Command::Scan { from: Some(TreePath::parse(from)?), to: None },
            (b"scan", [from, to]) => {
                Command::Scan { from: Some(TreePath::parse(from)?), to: Some(TreePath::parse(to)?) }
            }
            (b"ls", []) => Command::Ls { path: TreePath::default() },
            (b"ls", [path]) => Command::Ls { path: TreePath::parse(path)? },
            (b"flush", []) => Command::Flush,
            (b"compact", []) => Command::Compact,
            (b"dump", []) => Command::Dump { keys: false },
            (b"dump", [b"keys"]) => Command::Dump { keys: true },
            (b"stats", []) => Command::Stats { json: false },
            (b"stats", [b"json"]) => Command::Stats { json: true },
            (b"help", []) => Command::Help,
            (b"quit" | b"exit", []) => Command::Quit,
            _ => return Err(CliError::Refused(usage(name))),
        })
    }
}

fn fill(from: u64, to: u64) -> Result<Command> {
    match from <= to {
        true => Ok(Command::Fill { from, to }),
        false => Err(CliError::Refused(format!("fill: {from} is above {to}"))),
    }
}

fn number(word: &[u8]) -> Result<u64> {
    let parsed = std::str::from_utf8(word).ok().and_then(|word| word.parse().ok());
    parsed.ok_or_else(|| {
        CliError::Refused(format!("fill: {:?} is not a number", word.escape_ascii().to_string()))
    })
}

/// How a command is used, or that there is none of this name.
fn usage(name: &[u8]) -> String {
    let name = name.escape_ascii().to_string();
    let is_for = |line: &&str| line.split([' ', ',']).any(|word| word == name);
    let forms = HELP.lines().skip(1).take_while(|line| !line.is_empty());
    let forms: Vec<&str> = forms.filter_map(|line| line.trim_start().split("  ").next()).collect();
    match forms.iter().find(|form| is_for(form)) {
        Some(form) => format!("usage: {form}"),
        None => format!("{name}: no such command (help lists them)"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn path(text: &str) -> TreePath {
        TreePath::parse(text.as_bytes()).unwrap()
    }

    fn parse(line: &str) -> Command {
        Command::parse(line.as_bytes()).unwrap().unwrap()
    }

    fn refused(line: &str) -> String {
        Command::parse(line.as_bytes()).unwrap_err().to_string()
    }

    #[test]
    fn lines_become_commands() {
        assert_eq!(parse("fill 1000 3000"), Command::Fill { from: 1000, to: 3000 });
        assert_eq!(parse("  get\ta/b "), Command::Get { path: path("a/b") });
        let value = b"two words\n".to_vec();
        assert_eq!(parse(r#"put "a b" two" words"\n"#), Command::Put { path: path("a b"), value });
        assert_eq!(parse(r#"put a """#), Command::Put { path: path("a"), value: Vec::new() });
        assert_eq!(parse("scan a"), Command::Scan { from: Some(path("a")), to: None });
        assert_eq!(parse("ls"), Command::Ls { path: path("/") });
        assert_eq!(parse("dump keys"), Command::Dump { keys: true });
        assert_eq!(parse("exit"), Command::Quit);
        for nothing in ["", "  \t", "# get a", "  #"] {
            assert_eq!(Command::parse(nothing.as_bytes()).unwrap(), None);
        }
    }

    #[test]
    fn what_is_no_command_is_refused_with_its_reason() {
        for (line, reason) in [
            ("fil 1 2", "fil: no such command"),
            ("fill 1", "usage: fill A B"),
            ("get", "usage: get PATH"),
            ("get a b", "usage: get PATH"),
            ("dump all", "usage: dump"),
            ("exit now", "usage: quit, exit"),
            ("fill 3 2", "3 is above 2"),
            ("fill 1 x", "\"x\" is not a number"),
            ("fill 1 99999999999999999999", "is not a number"),
            ("get \"a", "quote"),
            (r"get a\", "escape"),
            (r"get a\q", "escape"),
            (r"get a\x1", "hex"),
            ("get ..", ".."),
        ] {
            let said = refused(line);
            assert!(said.contains(reason), "{line}: {said}");
        }
    }

    #[test]
    fn every_command_is_in_the_help() {
        for line in HELP.lines().skip(1).take_while(|line| !line.is_empty()) {
            let name = line.split_whitespace().next().unwrap().trim_end_matches(',');
            let said = Command::parse(format!("{name} too many words by far").as_bytes());
            assert!(said.unwrap_err().to_string().starts_with("usage: "), "{name}");
        }
    }

    proptest! {
        #[test]
        fn no_line_is_a_panic(line in prop::collection::vec(any::<u8>(), 0..40)) {
            let _ = Command::parse(&line);
        }
    }
}
