//! The commands that take a path for a key: get, put, rm, ls, scan. The store must not be mounted.

use crate::cli::error::{CliError, Result};
use crate::cli::print::{Escaper, escape, time};
use crate::cli::store::{self, OpenStore, VolumeArg};
use crate::fs::tree::{Tree, TreePath};
use crate::fs::{Attr, Cause, FileKind};
use clap::Args;
use std::ffi::OsString;
use std::fs::File;
use std::io::{self, BufWriter, Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

/// Print the value of a path: the contents of the file
///
/// The store must not be mounted: while it is, use the files.
#[derive(Debug, Args)]
pub struct GetArgs {
    /// The store's directory
    store: PathBuf,
    #[command(flatten)]
    volume: VolumeArg,
    /// The file's path in the store, with or without a slash before it; .. is not taken, and
    /// symbolic links are not followed
    path: OsString,
}

/// Store a value under a path; makes missing directories, and the store if there is none
///
/// The value is read from standard input, or from FILE, or is TEXT. It replaces the file's contents
/// when it is complete: until then, and after a failure, the old value stays. When this returns, the
/// value is on the disk. The store must not be mounted: while it is, use the files.
#[derive(Debug, Args)]
pub struct PutArgs {
    /// The store's directory; made if it is missing
    store: PathBuf,
    #[command(flatten)]
    volume: VolumeArg,
    /// The file's path in the store
    path: OsString,
    /// Where the value is read from; - is standard input
    #[arg(default_value = "-", conflicts_with = "value")]
    file: PathBuf,
    /// The value itself
    #[arg(long, value_name = "TEXT")]
    value: Option<OsString>,
}

/// Remove files, or with -r whole directories
///
/// The store must not be mounted: while it is, use the files.
#[derive(Debug, Args)]
pub struct RmArgs {
    /// The store's directory
    store: PathBuf,
    #[command(flatten)]
    volume: VolumeArg,
    /// The paths to remove
    #[arg(required = true)]
    paths: Vec<OsString>,
    /// Remove directories and all that is in them
    #[arg(short, long)]
    recursive: bool,
    /// Say nothing about paths that do not exist
    #[arg(short, long)]
    force: bool,
}

/// List a directory in the store, in byte order
///
/// Directories end in a slash. What would break a line (control characters, backslashes, bytes that
/// are not UTF-8) is escaped: \n, \t, \\, \xff. The store must not be mounted.
#[derive(Debug, Args)]
pub struct LsArgs {
    /// The store's directory
    store: PathBuf,
    #[command(flatten)]
    volume: VolumeArg,
    /// The path in the store
    #[arg(default_value = "/", hide_default_value = true)]
    path: OsString,
    /// Show mode, links, owner, group, size and time of change (UTC) too
    #[arg(short)]
    long: bool,
}

/// Print the paths and values of a range of files, in order
///
/// A line is a path, a tab and the value; what would break it (control characters, backslashes, bytes
/// that are not UTF-8) is escaped: \n, \t, \\, \xff. The order is that of the names from the root on,
/// each as bytes: what is in a directory comes where the directory stands, before its next sibling.
/// Only regular files are printed. The store must not be mounted.
#[derive(Debug, Args)]
pub struct ScanArgs {
    /// The store's directory
    store: PathBuf,
    #[command(flatten)]
    volume: VolumeArg,
    /// The first path of the range; the start if it is left out
    from: Option<OsString>,
    /// The last path of the range: it is included, and so is all below it
    to: Option<OsString>,
    /// Print paths only
    #[arg(long)]
    keys: bool,
}

/// Prints a value.
pub fn get(args: &GetArgs) -> Result<()> {
    let path = parse(&args.path)?;
    OpenStore::open(store::lock(&args.store)?, &args.volume)?.finish_after(|store| {
        let mut out = output();
        let read = store.tree().read(&path, |piece| written(out.write_all(piece)));
        read.map_err(|error| error.hint_if(is_directory, "lsmfs ls lists it"))?;
        written(out.flush())
    })
}

/// Stores a value.
pub fn put(args: &PutArgs) -> Result<()> {
    let path = parse(&args.path)?;
    let mut source: Box<dyn Read> = match &args.value {
        Some(value) => Box::new(io::Cursor::new(value.as_bytes().to_vec())),
        None if args.file.as_os_str() == "-" => Box::new(io::stdin().lock()),
        None => Box::new(open_file(&args.file)?),
    };
    OpenStore::open(store::lock_or_create(&args.store)?, &args.volume)?.finish_after(|store| {
        store.tree().write(&path, |piece| {
            source.read(piece).map_err(|error| CliError::system("read the value", error))
        })
    })
}

fn open_file(path: &PathBuf) -> Result<File> {
    let failed = |error| CliError::system(path.display().to_string(), error);
    let file = File::open(path).map_err(failed)?;
    match file.metadata().map_err(failed)?.is_dir() {
        true => Err(failed(io::ErrorKind::IsADirectory.into())),
        false => Ok(file),
    }
}

/// Removes files.
pub fn rm(args: &RmArgs) -> Result<()> {
    let paths = args.paths.iter().map(parse).collect::<Result<Vec<TreePath>>>()?;
    OpenStore::open(store::lock(&args.store)?, &args.volume)?.finish_after(|store| {
        let mut done = Ok(());
        for path in &paths {
            match store.tree().remove(path, args.recursive) {
                Err(error) if args.force && matches!(error.cause, Cause::NotFound) => (),
                Err(error) => {
                    CliError::from(error).hint_if(is_directory, "-r removes it and all that is in it").say();
                    done = Err(CliError::Told(1));
                }
                Ok(()) => (),
            }
        }
        done
    })
}

/// Lists a directory, or shows one file.
pub fn ls(args: &LsArgs) -> Result<()> {
    let path = parse(&args.path)?;
    OpenStore::open(store::lock(&args.store)?, &args.volume)?.finish_after(|store| {
        let mut out = output();
        print_directory(&store.tree(), &path, args.long, &mut out)?;
        written(out.flush())
    })
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

/// Prints a range of keys.
pub fn scan(args: &ScanArgs) -> Result<()> {
    let from = args.from.as_ref().map(parse).transpose()?;
    let to = args.to.as_ref().map(parse).transpose()?;
    OpenStore::open(store::lock(&args.store)?, &args.volume)?.finish_after(|store| {
        let mut out = output();
        print_range(&store.tree(), from.as_ref(), to.as_ref(), !args.keys, &mut out)?;
        written(out.flush())
    })
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

fn parse(path: &OsString) -> Result<TreePath> {
    Ok(TreePath::parse(path.as_bytes())?)
}

fn is_directory(cause: &Cause) -> bool {
    matches!(cause, Cause::IsDirectory)
}

/// Standard output.
pub fn output() -> BufWriter<io::StdoutLock<'static>> {
    BufWriter::with_capacity(64 << 10, io::stdout().lock())
}

/// What became of writing to it.
pub fn written(done: io::Result<()>) -> Result<()> {
    done.map_err(|error| CliError::system("write to standard output", error))
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
