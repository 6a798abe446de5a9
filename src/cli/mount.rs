//! `lsmfs mount`.

use crate::cli::error::Result;
use crate::cli::store::compaction_parser;
use crate::cli::{background, daemon, log};
use crate::fs::mount::MountOptions;
use crate::lsm::options::CompactionMode;
use clap::Args;
use std::path::{Path, PathBuf};
use tracing::Level;

/// Mount a store as a directory; both are made if they are missing
///
/// Returns when the mount answers requests; a daemon in the background serves it from then on and
/// writes what it has to say into the store's daemon.log. A dead mount on DIR ("Transport endpoint
/// is not connected"), which a killed daemon leaves behind, is cleared first: whatever programs
/// were told was written is there again.
///
/// A store that is mounted already may be mounted again, another volume of it or the same one
/// elsewhere: the daemon that has it open serves all of its mounts, and ends when the last is gone.
#[derive(Debug, Args)]
#[command(after_help = OPTIONS_HELP)]
pub struct MountArgs {
    /// The directory that lsmfs keeps its own files in
    pub store: PathBuf,
    /// The directory to work in
    pub dir: PathBuf,
    /// Stay in the foreground and log on standard error; Ctrl-C unmounts
    #[arg(short, long)]
    pub foreground: bool,
    /// Mount options, separated by commas (see below)
    #[arg(short = 'o', value_name = "OPTIONS")]
    pub options: Vec<String>,
    /// The volume to mount, or a snapshot: VOLUME@SNAPSHOT, which cannot be changed (default: main)
    #[arg(long, value_name = "NAME")]
    pub volume: Option<String>,
    /// Mount all volumes, each a directory at the top: mkdir there makes a volume, rmdir deletes an
    /// empty one, mv gives it another name
    #[arg(long, conflicts_with = "volume")]
    pub all: bool,
    /// How tables are merged: into levels (default), into few large runs, or not at all
    #[arg(long, value_name = "MODE", value_parser = compaction_parser())]
    pub compaction: Option<CompactionMode>,
    /// Log more
    #[arg(short, long)]
    pub verbose: bool,
    /// Serve, and report on standard output when the mount answers
    #[arg(long, hide = true)]
    pub daemon: bool,
}

const OPTIONS_HELP: &str = "\
Mount options:
  ro, rw                          nothing can be changed; everything can (default)
  allow_other                     users other than yourself may enter, as the files' modes allow
                                  (always so for mounts by root; others need user_allow_other in
                                  /etc/fuse.conf)
  noatime                         no read moves times of access (default)
  relatime, strictatime           the first read after a change does, and one a day; every read does.
                                  In any case only reads that the kernel has not cached
  nodiratime, lazytime            taken, but without effect
  nosuid, nodev, noexec           ignore set-user-id bits, device files, refuse to run programs
                                  (nosuid and nodev always hold for mounts by others than root)
  sync                            every write is durable when it is answered
  dirsync                         taken, but without effect: the kernel does not tell a FUSE daemon
  threads=N                       requests that may be held up at once, 1 to 64 (default 32)
  request_timeout=SECONDS         answer a request with an I/O error if the disk takes longer
                                  (default 90)
  linger=MICROSECONDS             look out for the next request so long before sleeping, while
                                  they come that fast, and keep processors from sleeping while one
                                  program makes many small requests (default 100); 0 is never
  noxattr                         no extended attributes, and no access control lists: the kernel,
                                  which remembers none, then asks for none, as it does for every new
                                  file that is written or given an owner. Those that are there stay,
                                  but modes alone decide, whatever a list denies
  uring                           have requests come over io_uring (Linux 6.14 and later), which serves
                                  each where its caller runs: several programs at once do more. Root
                                  must have allowed it (echo Y > /sys/module/fuse/parameters/enable_uring);
                                  where it is not, they come as usual, and daemon.log says so.
                                  Each processor has its part of the threads then, and
                                  request_timeout= has no effect
  volume=NAME, all                the volume, as --volume; all volumes, as --all
  compaction=leveled|tiered|none  how tables are merged, as --compaction
  auto, noauto, user, users, nofail, _netdev, x-..., comment=...
                                  as in /etc/fstab

To unmount: lsmfs umount DIR (it returns when everything is on the disk), or umount, or
fusermount3 -u, or end the daemon with SIGTERM. Exit status: 0 mounted, 1 failure, 2 wrong usage.";

/// Mounts.
pub fn run(args: &MountArgs) -> Result<()> {
    let mut options = MountOptions::parse(&args.options)?;
    options.compaction = args.compaction.or(options.compaction);
    if args.all || args.volume.is_some() {
        options.show(args.volume.as_deref());
    }
    let level = if args.verbose { Level::DEBUG } else { Level::INFO };
    let (store, dir, stays) = (&args.store, &args.dir, args.foreground);
    let task = daemon::Task { store, dir, options: &options, lists: &args.options, stays };
    if args.daemon {
        background::detach()?;
        // A store without room for a log can be mounted all the same.
        let opened = |store: &Path| drop(log::to_store(store, level));
        let ready = |store: &Path| {
            log::take_stderr(store).or_else(|_| background::silence_stderr())?;
            background::report_ready()
        };
        daemon::serve(&task, opened, ready)
    } else if args.foreground {
        log::to_stderr(level);
        daemon::serve(&task, |_| (), |_| Ok(()))
    } else {
        background::start(args)
    }
}
