//! `lsmfs batch`: many changes of files in one step.

use crate::cli::access;
use crate::cli::error::{CliError, Result};
use crate::cli::print::escape;
use crate::cli::request::Request;
use crate::cli::store::VolumeArg;
use crate::cli::words::{read_line, words};
use crate::fs::batch::MAX_BYTES;
use clap::Args;
use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// Change many files in one step: all of it happens, or nothing
///
/// Reads operations, one a line, and applies them together, in their order: each sees what those before
/// it did, and nobody else sees a part of them; a crash leaves all of it or nothing. If one fails, or something is
/// not as it was expected, the line is named, nothing is changed and the exit status is 1. When this
/// returns, the changes are on the disk.
#[derive(Debug, Args)]
#[command(after_help = HELP)]
pub struct BatchArgs {
    /// The store's directory; made if it is missing
    store: PathBuf,
    #[command(flatten)]
    volume: VolumeArg,
    /// Where the operations are read from; - is standard input
    #[arg(default_value = "-")]
    file: PathBuf,
}

/// The operations.
pub const HELP: &str = "\
Operations:
  put PATH VALUE            a file gets this value as a whole; missing directories are made
  put PATH < FILE           the same, with the contents of a file
  mkdir PATH                makes a directory, and missing ones above it
  rm PATH                   removes a file
  rm -r PATH                removes a file, or a directory and all that is in it
  mv PATH NEW               renames, in place of what is there
  expect PATH absent        nothing has this path, or the batch does nothing
  expect PATH present       something has it
  expect PATH version N     it is what it was when its version was N
  expect PATH value VALUE   it is a file with this value
  version PATH              prints the path and its version after the batch

Words with blanks are quoted: put \"a b\" \"c d\". Escapes are those that scan prints: \\n \\t \\\\ \\x00. A line
that starts with # is a comment. A path's version changes with every change of its file (of a directory: of the
names in it); lsmfs get --version prints it. A batch has at most 1048576 operations and writes at most 128 MiB.";

/// Applies a batch.
pub fn run(args: &BatchArgs) -> Result<()> {
    let lines: Box<dyn BufRead> = match args.file.as_os_str() == "-" {
        true => Box::new(io::stdin().lock()),
        false => Box::new(BufReader::new(open(&args.file)?)),
    };
    let mut input = WithContents { lines, number: 0, ready: io::Cursor::default() };
    access::run_fed(&args.store, &Request::Batch { volume: args.volume.name() }, &mut input)
}

/// The lines of a batch, where contents stand in the place of the names of the files that hold them:
/// `put PATH << LENGTH`, a line's end, the contents, a line's end.
struct WithContents<'a> {
    lines: Box<dyn BufRead + 'a>,
    number: usize,
    /// The line at hand.
    ready: io::Cursor<Vec<u8>>,
}

impl WithContents<'_> {
    /// The next line, as it is sent; empty at the end.
    fn next(&mut self) -> Result<Vec<u8>> {
        let Some(mut line) = read_line(&mut *self.lines)? else { return Ok(Vec::new()) };
        self.number += 1;
        line.push(b'\n');
        let words = words(&line).unwrap_or_default();
        let [put, path, from, file] = words.as_slice() else { return Ok(line) };
        if put != b"put" || from != b"<" {
            return Ok(line);
        }
        let contents = contents(Path::new(OsStr::from_bytes(file)))?;
        let path = escape(path).replace('"', "\\\"");
        let start = format!("put \"{path}\" << {}\n", contents.len());
        Ok([start.as_bytes(), &contents, b"\n"].concat())
    }
}

impl Read for WithContents<'_> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let read = self.ready.read(buf)?;
        if read > 0 || buf.is_empty() {
            return Ok(read);
        }
        let next = self.next();
        let next = next.map_err(|error| io::Error::other(format!("line {}: {error}", self.number)))?;
        self.ready = io::Cursor::new(next);
        self.ready.read(buf)
    }
}

fn open(path: &Path) -> Result<File> {
    File::open(path).map_err(|error| CliError::system(path.display().to_string(), error))
}

/// The contents of a file, as far as they are not too large for a batch.
fn contents(path: &Path) -> Result<Vec<u8>> {
    let mut contents = Vec::new();
    let read = open(path)?.take(MAX_BYTES as u64 + 1).read_to_end(&mut contents);
    read.map_err(|error| CliError::system(path.display().to_string(), error))?;
    Ok(contents)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn contents_stand_in_the_place_of_files() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("f");
        std::fs::write(&file, "a\n\0").unwrap();
        let text = format!("put a b\n# x\nput \"q \\\" é\" < {}\nput \"open\n", file.display());
        let mut input =
            WithContents { lines: Box::new(text.as_bytes()), number: 0, ready: io::Cursor::default() };
        let mut sent = String::new();
        input.read_to_string(&mut sent).unwrap();
        assert_eq!(sent, "put a b\n# x\nput \"q \\\" é\" << 3\na\n\0\nput \"open\n");
    }
}
