//! Requests about files, by their paths.

use crate::cli::error::{CliError, Result};
use crate::cli::print::{Escaper, escape, time, written};
use crate::cli::request::Job;
use crate::fs::tree::{Tree, TreePath};
use crate::fs::{Attr, Cause, FileKind, FileSystem};
use std::io::{BufWriter, Write};

/// Bytes that are printed at once.
pub const OUTPUT_BYTES: usize = 64 << 10;

/// The files, on behalf of who asks.
pub fn tree<'a>(job: &Job<'_>, files: &'a FileSystem) -> Tree<'a> {
    Tree::new(files).on_behalf_of(job.caller)
}

fn is_directory(cause: &Cause) -> bool {
    matches!(cause, Cause::IsDirectory)
}

/// Prints a value.
pub fn get(job: &mut Job<'_>, volume: &str, path: &TreePath) -> Result<()> {
    let files = job.files(volume)?;
    let mut out = BufWriter::with_capacity(OUTPUT_BYTES, &mut job.output);
    let read = Tree::new(&files).read(path, |piece| written(out.write_all(piece)));
    read.map_err(|error: CliError| error.hint_if(is_directory, "lsmfs ls lists it"))?;
    written(out.flush())
}

/// Prints a path's version.
pub fn version(job: &mut Job<'_>, volume: &str, path: &TreePath) -> Result<()> {
    let found = Tree::new(&*job.files(volume)?).version(path)?;
    let version = found.ok_or_else(|| path.error("look up", Cause::NotFound))?;
    written(writeln!(job.output, "{version}"))
}

/// Stores a value, and makes it durable.
pub fn put(job: &mut Job<'_>, volume: &str, path: &TreePath) -> Result<()> {
    let files = job.files(volume)?;
    tree(job, &files).write(path, |piece| {
        job.input.read(piece).map_err(|error| CliError::system("read the value", error))
    })?;
    job.store.sync()
}

/// Removes a file, or a directory and all below it.
pub fn remove(job: &Job<'_>, volume: &str, path: &TreePath, recursive: bool, force: bool) -> Result<()> {
    let files = job.files(volume)?;
    match tree(job, &files).remove(path, recursive) {
        Err(error) if force && matches!(error.cause, Cause::NotFound) => Ok(()),
        removed => removed.map_err(|error| {
            CliError::from(error).hint_if(is_directory, "-r removes it and all that is in it")
        }),
    }
}

/// Lists a directory, or shows one file.
pub fn list(job: &mut Job<'_>, volume: &str, path: &TreePath, long: bool) -> Result<()> {
    let files = job.files(volume)?;
    let mut out = BufWriter::with_capacity(OUTPUT_BYTES, &mut job.output);
    print_directory(&Tree::new(&files), path, long, &mut out)?;
    written(out.flush())
}

/// Prints a range of files.
pub fn scan(
    job: &mut Job<'_>,
    volume: &str,
    from: Option<&TreePath>,
    to: Option<&TreePath>,
    values: bool,
) -> Result<()> {
    let files = job.files(volume)?;
    let mut out = BufWriter::with_capacity(OUTPUT_BYTES, &mut job.output);
    print_range(&Tree::new(&files), from, to, values, &mut out)?;
    written(out.flush())
}

/// Prints the names in a directory, or a file's.
pub fn print_directory(tree: &Tree<'_>, path: &TreePath, long: bool, out: &mut impl Write) -> Result<()> {
    let attr = tree.stat(path)?;
    if attr.kind == FileKind::Directory {
        tree.list(path, |name, attr| {
            let line = ls_line(tree, &path.join(name), name, attr, long)?;
            written(writeln!(out, "{line}"))
        })
    } else {
        let line = ls_line(tree, path, &path.to_bytes(), &attr, long)?;
        written(writeln!(out, "{line}"))
    }
}

fn ls_line(tree: &Tree<'_>, path: &TreePath, name: &[u8], attr: &Attr, long: bool) -> Result<String> {
    let mut line = String::new();
    if long {
        let Attr { nlink, uid, gid, size, .. } = attr;
        line = format!("{} {nlink:>3} {uid:>5} {gid:>5} {size:>12} ", mode_text(attr));
        line.push_str(&time(attr.mtime.secs));
        line.push(' ');
    }
    line.push_str(&escape(name));
    match attr.kind {
        FileKind::Directory => line.push('/'),
        FileKind::Symlink if long => {
            line.push_str(" -> ");
            line.push_str(&escape(&tree.readlink(path)?));
        }
        _ => (),
    }
    Ok(line)
}

/// Kind and permissions, as `ls -l` writes them.
fn mode_text(attr: &Attr) -> String {
    let kind = match attr.kind {
        FileKind::File => '-',
        FileKind::Directory => 'd',
        FileKind::Symlink => 'l',
        FileKind::Fifo => 'p',
        FileKind::Socket => 's',
        FileKind::CharDevice => 'c',
        FileKind::BlockDevice => 'b',
    };
    let mut text = String::from(kind);
    // Shift, the special bit, and its letters with and without execution.
    for (shift, special, with, without) in
        [(6, 0o4000, 's', 'S'), (3, 0o2000, 's', 'S'), (0, 0o1000, 't', 'T')]
    {
        let bits = attr.mode >> shift;
        text.push(if bits & 4 != 0 { 'r' } else { '-' });
        text.push(if bits & 2 != 0 { 'w' } else { '-' });
        text.push(match (bits & 1 != 0, attr.mode & special != 0) {
            (true, true) => with,
            (false, true) => without,
            (true, false) => 'x',
            (false, false) => '-',
        });
    }
    text
}

/// Prints the paths of a range of files, with their values if `values` is set.
pub fn print_range(
    tree: &Tree<'_>,
    from: Option<&TreePath>,
    to: Option<&TreePath>,
    values: bool,
    out: &mut impl Write,
) -> Result<()> {
    tree.scan(from, to, |found| {
        written(out.write_all(escape(&found.path.to_bytes()).as_bytes()))?;
        if values {
            written(out.write_all(b"\t"))?;
            let mut value = Escaper::new(&mut *out);
            found.read(|piece| written(value.write_all(piece)))?;
            written(value.finish())?;
        }
        written(out.write_all(b"\n"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fs::Timestamp;

    #[test]
    fn modes_are_written_as_ls_does() {
        let time = Timestamp::default();
        let mut attr = Attr {
            ino: 2,
            kind: FileKind::File,
            mode: 0o644,
            uid: 0,
            gid: 0,
            nlink: 1,
            size: 0,
            blocks: 0,
            rdev: 0,
            atime: time,
            mtime: time,
            ctime: time,
        };
        assert_eq!(mode_text(&attr), "-rw-r--r--");
        attr.mode = 0o6711;
        assert_eq!(mode_text(&attr), "-rws--s--x");
        (attr.kind, attr.mode) = (FileKind::Directory, 0o7000);
        assert_eq!(mode_text(&attr), "d--S--S--T");
        (attr.kind, attr.mode) = (FileKind::Directory, 0o1777);
        assert_eq!(mode_text(&attr), "drwxrwxrwt");
    }
}
