//! Mount options: the comma list of `mount -o` and of the fourth field of `/etc/fstab`.
//!
//! Later options win over earlier ones. Root mounts as a disk in `/etc/fstab` would be mounted:
//! set-user-id programs and devices work (`suid`, `dev`) and every user may enter, judged by the
//! files' modes (`allow_other`, `default_permissions`). A mount by anyone else is `nosuid` and
//! `nodev`, and its owner's alone unless `allow_other` is asked for.

use crate::fs::AccessTimes;
use crate::lsm::options::CompactionMode;
use rustix::mount::MountFlags;
use std::time::Duration;

/// How a store is mounted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MountOptions {
    /// What `mount(2)` takes as flags: `ro`, `noatime` …
    pub(super) flags: MountFlags,
    /// Users other than the one that mounts may enter.
    pub allow_other: bool,
    /// Threads that serve requests; `None` leaves it to the daemon.
    pub threads: Option<usize>,
    /// How long a request may take before it is answered with an error; `None` leaves it to the daemon.
    pub request_timeout: Option<Duration>,
    /// How long a thread looks out for the next request; `None` leaves it to the daemon.
    pub linger: Option<Duration>,
    /// Extended attributes and access control lists are served.
    pub xattrs: bool,
    /// Requests come over io_uring, where the kernel offers that.
    pub uring: bool,
    /// The volume, or a snapshot; `None` leaves it to the daemon.
    pub volume: Option<String>,
    /// Show all volumes.
    pub all: bool,
    /// How the store's tables are compacted; `None` leaves it to the engine.
    pub compaction: Option<CompactionMode>,
}

/// An option that can't be used, and why.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("mount option {option}: {why}")]
pub struct OptionError {
    /// The option as it was given.
    pub option: String,
    /// What is wrong with it.
    pub why: &'static str,
}

/// Most threads that `threads=` may ask for.
pub const THREADS_MAX: usize = 64;

/// The longest `request_timeout=`, in seconds: a day.
const REQUEST_TIMEOUT_MAX: u64 = 86_400;

/// The longest `linger=`, in microseconds.
const LINGER_MAX: u64 = 10_000;

/// Options for `mount(8)`, `/etc/fstab` and other helpers that mean nothing here.
const IGNORED: [&str; 13] = [
    "defaults",
    "auto",
    "noauto",
    "nouser",
    "nousers",
    "noowner",
    "nogroup",
    "nofail",
    "_netdev",
    "silent",
    "loud",
    "default_permissions",
    "subtype=lsmfs",
];

/// Options that set one flag, and those that clear it.
const FLAGS: [(&str, &str, MountFlags); 11] = [
    ("ro", "rw", MountFlags::RDONLY),
    ("nosuid", "suid", MountFlags::NOSUID),
    ("nodev", "dev", MountFlags::NODEV),
    ("noexec", "exec", MountFlags::NOEXEC),
    ("sync", "async", MountFlags::SYNCHRONOUS),
    ("dirsync", "nodirsync", MountFlags::DIRSYNC),
    ("noatime", "atime", MountFlags::NOATIME),
    ("nodiratime", "diratime", MountFlags::NODIRATIME),
    ("relatime", "norelatime", MountFlags::RELATIME),
    ("strictatime", "nostrictatime", MountFlags::STRICTATIME),
    ("lazytime", "nolazytime", MountFlags::LAZYTIME),
];

/// What `user` implies.
const TAME: MountFlags = MountFlags::NOSUID.union(MountFlags::NODEV).union(MountFlags::NOEXEC);

impl MountOptions {
    /// What holds where no option says otherwise.
    pub fn defaults() -> MountOptions {
        let root = rustix::process::geteuid().is_root();
        let flags = if root { MountFlags::empty() } else { MountFlags::NOSUID | MountFlags::NODEV };
        MountOptions {
            flags,
            allow_other: root,
            threads: None,
            request_timeout: None,
            linger: None,
            xattrs: true,
            uring: false,
            volume: None,
            all: false,
            compaction: None,
        }
    }

    /// The defaults, changed by each comma list in turn.
    pub fn parse(lists: &[String]) -> Result<MountOptions, OptionError> {
        let mut options = MountOptions::defaults();
        let words = lists.iter().flat_map(|list| list.split(',')).filter(|word| !word.is_empty());
        for word in words {
            options.apply(word)?;
        }
        Ok(options)
    }

    /// Chooses the volume, or all. A snapshot cannot be changed: `VOLUME@SNAPSHOT`.
    pub fn show(&mut self, volume: Option<&str>) {
        self.volume = volume.map(str::to_string);
        self.all = volume.is_none();
        let name = volume.unwrap_or("");
        if name.contains('@') {
            self.flags |= MountFlags::RDONLY;
        }
    }

    /// May nothing be changed through the mount?
    pub fn read_only(&self) -> bool {
        self.flags.contains(MountFlags::RDONLY)
    }

    /// Which reads move times of access. Without a word of it, none.
    pub fn access_times(&self) -> AccessTimes {
        if self.flags.intersects(MountFlags::RDONLY | MountFlags::NOATIME) {
            AccessTimes::Kept
        } else if self.flags.contains(MountFlags::STRICTATIME) {
            AccessTimes::Strict
        } else if self.flags.contains(MountFlags::RELATIME) {
            AccessTimes::Relative
        } else {
            AccessTimes::Kept
        }
    }

    fn apply(&mut self, word: &str) -> Result<(), OptionError> {
        if self.apply_flag(word) {
            return Ok(());
        }
        let refuse = |why| Err(OptionError { option: word.to_string(), why });
        match word.split_once('=') {
            Some(("threads", count)) => match count.parse() {
                Ok(count @ 1..=THREADS_MAX) => self.threads = Some(count),
                _ => return refuse("a number from 1 to 64 is wanted"),
            },
            Some(("request_timeout", seconds)) => match seconds.parse() {
                Ok(seconds @ 1..=REQUEST_TIMEOUT_MAX) => {
                    self.request_timeout = Some(Duration::from_secs(seconds));
                }
                _ => return refuse("a number of seconds from 1 to 86400 is wanted"),
            },
            Some(("linger", micros)) => match micros.parse() {
                Ok(micros @ 0..=LINGER_MAX) => self.linger = Some(Duration::from_micros(micros)),
                _ => return refuse("a number of microseconds from 0 to 10000 is wanted"),
            },
            Some(("compaction", mode)) => match CompactionMode::from_name(mode) {
                Some(mode) => self.compaction = Some(mode),
                None => return refuse("leveled, tiered or none is wanted"),
            },
            Some(("volume", name)) => self.show(Some(name)),
            None if word == "all" => self.show(None),
            Some(("comment", _)) => (),
            None if word == "allow_other" => self.allow_other = true,
            None if word == "xattr" => self.xattrs = true,
            None if word == "noxattr" => self.xattrs = false,
            None if word == "uring" => self.uring = true,
            None if word == "nouring" => self.uring = false,
            // What `mount(8)` documents that these imply.
            None if matches!(word, "user" | "users") => self.flags |= TAME,
            Some(("user", _)) => self.flags |= TAME,
            None if matches!(word, "owner" | "group") => self.flags |= MountFlags::NOSUID | MountFlags::NODEV,
            None if word == "allow_root" => return refuse("use allow_other and the files' modes"),
            None if word == "remount" => return refuse("use: mount -i -o remount,… DIR"),
            _ if IGNORED.contains(&word) || word.starts_with("x-") || word.starts_with("X-") => (),
            _ => return refuse("unknown (see: lsmfs mount --help)"),
        }
        Ok(())
    }

    fn apply_flag(&mut self, word: &str) -> bool {
        for (set, clear, flag) in FLAGS {
            if word == set {
                self.flags |= flag;
                return true;
            }
            if word == clear {
                self.flags -= flag;
                return true;
            }
        }
        false
    }

    /// The flags as `fusermount3` takes them.
    pub(super) fn flag_words(&self) -> impl Iterator<Item = &'static str> {
        FLAGS.into_iter().filter(|(_, _, flag)| self.flags.contains(*flag)).map(|(word, _, _)| word)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(list: &str) -> Result<MountOptions, OptionError> {
        MountOptions::parse(&[list.to_string()])
    }

    #[test]
    fn flags_are_set_and_the_last_word_wins() {
        let options = parse("ro,noatime,nosuid,noexec,rw,suid").unwrap();
        assert!(!options.read_only());
        assert!(options.flags.contains(MountFlags::NOATIME | MountFlags::NOEXEC));
        assert!(!options.flags.contains(MountFlags::NOSUID));
        let lists = ["ro".to_string(), "sync,threads=3,compaction=tiered".to_string()];
        let options = MountOptions::parse(&lists).unwrap();
        assert!(options.read_only());
        assert_eq!((options.threads, options.compaction), (Some(3), Some(CompactionMode::Tiered)));
        assert!(options.flag_words().any(|word| word == "sync"));
    }

    #[test]
    fn times_are_read_in_their_units() {
        let options = parse("request_timeout=5,linger=200").unwrap();
        assert_eq!(options.request_timeout, Some(Duration::from_secs(5)));
        assert_eq!(options.linger, Some(Duration::from_micros(200)));
    }

    #[test]
    fn times_of_access_move_where_it_is_asked_for() {
        let of = |list| parse(list).unwrap().access_times();
        assert_eq!(of("rw"), AccessTimes::Kept);
        assert_eq!(of("relatime"), AccessTimes::Relative);
        assert_eq!(of("relatime,strictatime"), AccessTimes::Strict);
        assert_eq!(of("strictatime,noatime"), AccessTimes::Kept);
        assert_eq!(of("strictatime,ro"), AccessTimes::Kept);
    }

    #[test]
    fn extended_attributes_can_be_left_out() {
        assert!(parse("rw").unwrap().xattrs && parse("noxattr,xattr").unwrap().xattrs);
        assert!(!parse("noxattr").unwrap().xattrs);
    }

    #[test]
    fn requests_over_io_uring_are_asked_for() {
        assert!(!parse("rw").unwrap().uring && !parse("uring,nouring").unwrap().uring);
        assert!(parse("uring").unwrap().uring);
    }

    #[test]
    fn what_is_for_others_is_ignored() {
        let list = "defaults,auto,noauto,nofail,_netdev,x-systemd.automount,comment=x,X-mount.mkdir,,default_permissions,async";
        assert_eq!(parse(list).unwrap(), MountOptions::defaults());
    }

    #[test]
    fn user_mounts_are_tame_unless_told() {
        assert!(parse("user").unwrap().flags.contains(TAME));
        assert!(parse("user=someone").unwrap().flags.contains(TAME));
        assert!(!parse("users,exec").unwrap().flags.contains(MountFlags::NOEXEC));
    }

    #[test]
    fn what_is_not_understood_is_named() {
        for word in [
            "noatme",
            "threads=0",
            "threads=65",
            "threads=x",
            "request_timeout=0",
            "request_timeout=86401",
            "linger=-1",
            "linger=10001",
            "compaction=x",
            "compaction",
            "remount",
            "threads",
            "ro=1",
        ] {
            let error = parse(&format!("rw,{word}")).unwrap_err();
            assert_eq!(error.option, word);
            assert!(error.to_string().starts_with(&format!("mount option {word}: ")));
        }
    }
}
