//! Requests that change many files in one step.

use crate::cli::batch::HELP;
use crate::cli::error::{CliError, Result};
use crate::cli::print::{escape, written};
use crate::cli::request::Job;
use crate::cli::words::{read_line, words};
use crate::fs::batch::{BatchError, Expect, MAX_BYTES, MAX_OPERATIONS, Operation};
use crate::fs::tree::TreePath;
use std::io::{BufRead, BufReader, BufWriter, Read, Write};

/// Applies a batch, and makes it durable.
pub fn apply(job: &mut Job<'_>, volume: &str) -> Result<()> {
    let lines = Lines::read(&mut BufReader::new(&mut *job.input))?;
    let files = job.files(volume)?;
    let versions = files.apply(&lines.operations, job.caller).map_err(|error| lines.explain(&error))?;
    job.store.sync()?;
    let asked = lines.operations.iter().filter_map(|operation| match operation {
        Operation::Version { path } => Some(path),
        _ => None,
    });
    let mut out = BufWriter::new(&mut *job.output);
    for (path, version) in asked.zip(versions) {
        let version = version.map_or("absent".to_string(), |version| version.to_string());
        written(writeln!(out, "{}\t{version}", escape(&path.to_bytes())))?;
    }
    written(out.flush())
}

/// The operations of a batch, and on which lines they stand.
#[derive(Debug, Default)]
pub struct Lines {
    operations: Vec<Operation>,
    numbers: Vec<usize>,
}

impl Lines {
    /// Reads all of them. Stops at what no batch may hold.
    pub fn read(input: &mut dyn BufRead) -> Result<Lines> {
        let mut lines = Lines::default();
        let mut number = 0;
        let mut bytes = 0;
        while let Some(line) = read_line(input)? {
            number += 1;
            let at = |error: CliError| CliError::Refused(format!("line {number}: {error}"));
            let Some(operation) = parse(&line, input).map_err(at)? else { continue };
            if let Operation::Put { contents, .. } = &operation {
                bytes += contents.len();
            }
            if bytes > MAX_BYTES || lines.operations.len() == MAX_OPERATIONS {
                let limits = format!("{MAX_OPERATIONS} operations and {MAX_BYTES} bytes of contents");
                let what = format!("the batch is too large: it may have {limits}");
                return Err(at(CliError::Refused(what)));
            }
            lines.operations.push(operation);
            lines.numbers.push(number);
        }
        Ok(lines)
    }

    /// Names the line that failed.
    fn explain(&self, failed: &BatchError) -> CliError {
        match failed.operation.and_then(|at| self.numbers.get(at)) {
            Some(number) => CliError::Refused(format!("line {number}: {failed}: nothing was changed")),
            None => CliError::Refused(format!("{failed}: nothing was changed")),
        }
    }
}

/// The operation of a line; `None` if there is none in it. `rest`: what follows the line.
fn parse(line: &[u8], rest: &mut dyn BufRead) -> Result<Option<Operation>> {
    let words = words(line).map_err(|what| CliError::Refused(what.to_string()))?;
    let words: Vec<&[u8]> = words.iter().map(Vec::as_slice).collect();
    if words.is_empty() {
        return Ok(None);
    }
    let path = |word: &[u8]| TreePath::parse(word);
    let expect = |word: &[u8], that| Ok(Operation::Expect { path: path(word)?, that });
    Ok(Some(match words.as_slice() {
        [b"put", at, value] => Operation::Put { path: path(at)?, contents: value.to_vec().into() },
        [b"put", at, b"<<", len] => {
            Operation::Put { path: path(at)?, contents: contents(number(len)?, rest)?.into() }
        }
        [b"mkdir", at] => Operation::MakeDir { path: path(at)? },
        [b"rm", b"-r", at] => Operation::Remove { path: path(at)?, recursive: true },
        [b"rm", at] => Operation::Remove { path: path(at)?, recursive: false },
        [b"mv", from, to] => Operation::Rename { from: path(from)?, to: path(to)? },
        [b"expect", at, b"absent"] => return expect(at, Expect::Absent).map(Some),
        [b"expect", at, b"present"] => return expect(at, Expect::Present).map(Some),
        [b"expect", at, b"version", version] => {
            return expect(at, Expect::Version(number(version)?)).map(Some);
        }
        [b"expect", at, b"value", value] => {
            return expect(at, Expect::Contents(value.to_vec().into())).map(Some);
        }
        [b"version", at] => Operation::Version { path: path(at)? },
        _ => return Err(CliError::Refused(usage(words[0]))),
    }))
}

fn number(word: &[u8]) -> Result<u64> {
    let number = std::str::from_utf8(word).ok().and_then(|word| word.parse().ok());
    number.ok_or_else(|| CliError::Refused(format!("{} is not a number", escape(word))))
}

/// Contents that stand behind a line, and the line's end behind them.
fn contents(len: u64, input: &mut dyn BufRead) -> Result<Vec<u8>> {
    if len > MAX_BYTES as u64 {
        return Err(CliError::Refused(format!(
            "contents of {len} bytes: a batch writes at most {MAX_BYTES}"
        )));
    }
    let mut contents = Vec::new();
    let read = Read::take(input, len + 1).read_to_end(&mut contents);
    read.map_err(|error| CliError::system("read the contents", error))?;
    match contents.pop() {
        Some(b'\n') if contents.len() as u64 == len => Ok(contents),
        Some(_) if contents.len() as u64 == len => {
            Err(CliError::Refused(format!("the contents go on behind their {len} bytes")))
        }
        _ => Err(CliError::Refused("the contents are cut short".to_string())),
    }
}

/// How an operation is written, or that there is none of this name.
fn usage(name: &[u8]) -> String {
    let forms = HELP.lines().skip(1).take_while(|line| !line.is_empty());
    let forms: Vec<&str> = forms.filter_map(|line| line.trim_start().split("  ").next()).collect();
    let of_name = |form: &&&str| form.split(' ').next().map(str::as_bytes) == Some(name);
    match forms.iter().filter(of_name).copied().collect::<Vec<&str>>().as_slice() {
        [] => format!("{}: no such operation (lsmfs batch --help lists them)", escape(name)),
        forms => format!("usage: {}", forms.join(" | ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn path(text: &str) -> TreePath {
        TreePath::parse(text.as_bytes()).unwrap()
    }

    #[test]
    fn lines_become_operations() {
        let text =
            "# a comment\n\nput \"a b\" x\\n\nexpect a/b version 7\nput z << 3\n\n#\n\nrm -r d\nversion c";
        let lines = Lines::read(&mut text.as_bytes()).unwrap();
        assert_eq!(
            lines.operations,
            [
                Operation::Put { path: path("a b"), contents: "x\n".into() },
                Operation::Expect { path: path("a/b"), that: Expect::Version(7) },
                Operation::Put { path: path("z"), contents: "\n#\n".into() },
                Operation::Remove { path: path("d"), recursive: true },
                Operation::Version { path: path("c") },
            ]
        );
        assert_eq!(lines.numbers, [3, 4, 5, 6, 7]);
    }

    #[test]
    fn what_is_no_operation_is_refused_with_its_line_and_reason() {
        for (line, reason) in [
            ("put a", "usage: put PATH VALUE | put PATH < FILE"),
            ("expect a version x", "x is not a number"),
            ("put a << 5", "cut short"),
            ("put a << 3\nabcd", "go on behind"),
            ("put a << 999999999", "at most"),
            ("expect a", "usage: expect PATH absent | "),
            ("frob a", "frob: no such operation"),
            ("mkdir ..", ".."),
            ("put a \"b", "quote"),
        ] {
            let said = Lines::read(&mut format!("\n{line}\n").as_bytes()).unwrap_err().to_string();
            assert!(said.starts_with("line 2: ") && said.contains(reason), "{line}: {said}");
        }
    }

    proptest! {
        #[test]
        fn no_line_is_a_panic(line in prop::collection::vec(any::<u8>(), 0..40)) {
            let _ = parse(&line, &mut &b"ab\n"[..]);
        }
    }
}
