//! Pax headers: records `LENGTH KEY=VALUE\n` before a member, or for all that follow, which say more of it than
//! its header can. Values may hold any byte.

use super::acl_text;
use super::sparse;
use super::{META_MAX, Member, Timestamp};
use crate::fs::xattr::is_kept;

/// Before the name of an extended attribute.
pub const XATTR: &[u8] = b"SCHILY.xattr.";
/// Access control lists, as text.
pub const ACL_ACCESS: &[u8] = b"SCHILY.acl.access";
pub const ACL_DEFAULT: &[u8] = b"SCHILY.acl.default";
/// What GNU tar calls the one attribute of SELinux.
const SELINUX: &[u8] = b"RHT.security.selinux";

/// The attributes that hold access control lists.
pub const XATTR_ACCESS: &[u8] = b"system.posix_acl_access";
pub const XATTR_DEFAULT: &[u8] = b"system.posix_acl_default";

/// What a record takes in memory beyond its bytes, about.
const RECORD_OVERHEAD: usize = 64;

/// What a pax header says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Pax {
    pub records: Vec<(Vec<u8>, Vec<u8>)>,
}

impl Pax {
    /// Reads the records.
    pub fn decode(mut bytes: &[u8]) -> Result<Pax, &'static str> {
        let mut pax = Pax::default();
        let mut held = 0;
        while !bytes.is_empty() {
            if bytes.iter().all(|byte| *byte == 0) {
                break;
            }
            let (record, rest) = next(bytes).ok_or("a pax header is malformed")?;
            let at = record.iter().position(|byte| *byte == b'=').ok_or("a pax record has no value")?;
            held += record.len() + RECORD_OVERHEAD;
            if held > META_MAX as usize {
                return Err("a pax header has too many records");
            }
            pax.records.push((record[..at].to_vec(), record[at + 1..].to_vec()));
            bytes = rest;
        }
        Ok(pax)
    }

    /// The bytes that it takes in memory, about.
    pub fn held(&self) -> usize {
        self.records.iter().map(|(key, value)| key.len() + value.len() + RECORD_OVERHEAD).sum()
    }

    /// Adds a record.
    pub fn put(&mut self, key: &[u8], value: &[u8]) {
        self.records.push((key.to_vec(), value.to_vec()));
    }

    /// The bytes of the records.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        for (key, value) in &self.records {
            // The length counts its own digits.
            let rest = key.len() + value.len() + 3;
            let mut len = rest + 1;
            while rest + len.to_string().len() != len {
                len = rest + len.to_string().len();
            }
            out.extend_from_slice(len.to_string().as_bytes());
            [b" ", &key[..], b"=", value, b"\n"].iter().for_each(|part| out.extend_from_slice(part));
        }
        out
    }

    /// The last value of a key; an empty one stands for none.
    pub fn get(&self, key: &[u8]) -> Option<&[u8]> {
        let found = self.records.iter().rev().find(|(own, _)| own == key);
        found.map(|(_, value)| value.as_slice()).filter(|value| !value.is_empty())
    }

    /// A number.
    pub fn number(&self, key: &[u8]) -> Result<Option<u64>, &'static str> {
        self.get(key).map(|value| decimal(value).ok_or("a number in a pax header makes no sense")).transpose()
    }

    /// A time: seconds with a fraction.
    fn time(&self, key: &[u8]) -> Result<Option<Timestamp>, &'static str> {
        self.get(key).map(|value| time(value).ok_or("a time in a pax header makes no sense")).transpose()
    }

    /// Says of a member what the header does.
    pub fn apply(&self, member: &mut Member) -> Result<(), &'static str> {
        let id = |number: u64| u32::try_from(number).map_err(|_| "an owner or group is out of range");
        if let Some(uid) = self.number(b"uid")? {
            member.uid = id(uid)?;
        }
        if let Some(gid) = self.number(b"gid")? {
            member.gid = id(gid)?;
        }
        if let Some(mtime) = self.time(b"mtime")? {
            member.mtime = mtime;
        }
        member.atime = self.time(b"atime")?.or(member.atime);
        for (key, value) in &self.records {
            let mut decoded = None;
            let (name, value) = match key.as_slice() {
                ACL_ACCESS => {
                    (XATTR_ACCESS, acl_text::parse(value).ok_or("an access control list makes no sense")?)
                }
                ACL_DEFAULT => {
                    (XATTR_DEFAULT, acl_text::parse(value).ok_or("an access control list makes no sense")?)
                }
                SELINUX => (&b"security.selinux"[..], value.clone()),
                key => match key.strip_prefix(XATTR) {
                    Some(name) => (decoded.insert(decode_name(name)).as_slice(), value.clone()),
                    None => continue,
                },
            };
            if !is_kept(name) {
                continue;
            }
            member.xattrs.retain(|(other, _)| other != name);
            member.xattrs.push((name.to_vec(), value));
        }
        Ok(())
    }

    /// The member's path, if it is here; of a sparse file its own, not the one that older programs show.
    pub fn path(&self) -> Option<&[u8]> {
        self.get(sparse::NAME).or_else(|| self.get(b"path"))
    }
}

/// An attribute's name as a part of a key, in which `=` ends the key: GNU tar's way to write it.
pub fn encode_name(name: &[u8]) -> Vec<u8> {
    let escaped = |byte: &u8| match byte {
        b'%' => b"%25".to_vec(),
        b'=' => b"%3D".to_vec(),
        byte => vec![*byte],
    };
    name.iter().flat_map(escaped).collect()
}

fn decode_name(mut name: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    while let Some((&first, rest)) = name.split_first() {
        let escaped =
            [(&b"%25"[..], b'%'), (b"%3D", b'=')].into_iter().find(|(text, _)| name.starts_with(text));
        match escaped {
            Some((text, byte)) => (out.push(byte), name = &name[text.len()..]).1,
            None => (out.push(first), name = rest).1,
        }
    }
    out
}

/// The next record, and what follows it.
fn next(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let blank = bytes.iter().take(20).position(|byte| *byte == b' ')?;
    let len = usize::try_from(decimal(&bytes[..blank])?).ok()?;
    let (record, rest) = bytes.split_at_checked(len)?;
    Some((record.get(blank + 1..)?.strip_suffix(b"\n")?, rest))
}

/// A number in decimal digits.
pub fn decimal(digits: &[u8]) -> Option<u64> {
    let plain = !digits.is_empty() && digits.iter().all(u8::is_ascii_digit);
    std::str::from_utf8(digits).ok().filter(|_| plain)?.parse().ok()
}

fn time(text: &[u8]) -> Option<Timestamp> {
    let negative = text.starts_with(b"-");
    let text = text.strip_prefix(b"-").unwrap_or(text);
    let (whole, fraction) = match text.iter().position(|byte| *byte == b'.') {
        Some(at) => (&text[..at], &text[at + 1..]),
        None => (text, &b""[..]),
    };
    let secs = i64::try_from(decimal(whole)?).ok()?;
    if !fraction.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let digits = fraction.iter().chain(std::iter::repeat(&b'0')).take(9);
    let nanos = digits.fold(0, |sum, digit| sum * 10 + u32::from(digit - b'0'));
    Some(match (negative, nanos) {
        (false, _) => Timestamp { secs, nanos },
        (true, 0) => Timestamp { secs: -secs, nanos: 0 },
        (true, _) => Timestamp { secs: -secs - 1, nanos: 1_000_000_000 - nanos },
    })
}

/// A time as text.
pub fn time_text(time: Timestamp) -> String {
    let (secs, nanos) = match time.secs < 0 && time.nanos > 0 {
        false => (time.secs, time.nanos),
        true => (time.secs + 1, 1_000_000_000 - time.nanos),
    };
    let sign = if time.secs < 0 { "-" } else { "" };
    match nanos {
        0 => format!("{sign}{}", secs.unsigned_abs()),
        nanos => format!("{sign}{}.{nanos:09}", secs.unsigned_abs()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fs::archive::MemberKind;
    use proptest::prelude::*;

    #[test]
    fn lengths_count_themselves() {
        let mut pax = Pax::default();
        for len in [1, 90, 91, 92, 93, 94, 990, 991, 992, 993, 9988, 9989, 9990] {
            pax.put(b"k", &vec![b'\n'; len]);
        }
        assert_eq!(Pax::decode(&pax.encode()), Ok(pax));
        assert!(Pax::decode(b"5 a=b\n").is_err() && Pax::decode(b"6 abc\n").is_err());
    }

    #[test]
    fn attributes_of_other_systems_are_passed_over() {
        let mut pax = Pax::default();
        for name in ["com.apple.provenance", "system.nfs4_acl", "user.kept", "trusted.kept"] {
            pax.put(format!("SCHILY.xattr.{name}").as_bytes(), b"value");
        }
        let mut member = Member {
            path: b"f".to_vec(),
            kind: MemberKind::File,
            mode: 0o644,
            uid: 0,
            gid: 0,
            mtime: Timestamp { secs: 0, nanos: 0 },
            atime: None,
            xattrs: Vec::new(),
            size: 0,
            extents: None,
        };
        pax.apply(&mut member).unwrap();
        let names: Vec<_> = member.xattrs.iter().map(|(name, _)| &name[..]).collect();
        assert_eq!(names, [&b"user.kept"[..], b"trusted.kept"]);
    }

    #[test]
    fn times_are_read_and_written_to_the_nanosecond() {
        let at = |secs, nanos| Timestamp { secs, nanos };
        for (text, value) in [
            ("0", at(0, 0)),
            ("1700000000.5", at(1_700_000_000, 500_000_000)),
            ("12.0000000019", at(12, 1)),
            ("-1", at(-1, 0)),
            ("-0.25", at(-1, 750_000_000)),
            ("-1.000000001", at(-2, 999_999_999)),
        ] {
            assert_eq!(time(text.as_bytes()), Some(value), "{text}");
        }
        for bad in ["", "-", "x", "1.x", "99999999999999999999", "1-2"] {
            assert_eq!(time(bad.as_bytes()), None, "{bad}");
        }
    }

    proptest! {
        #[test]
        fn any_time_comes_back(secs in -4_000_000_000i64..40_000_000_000, nanos in 0..1_000_000_000u32) {
            let at = Timestamp { secs, nanos };
            prop_assert_eq!(time(time_text(at).as_bytes()), Some(at));
        }

        #[test]
        fn any_bytes_come_back_and_none_is_a_panic(key in "[a-z.]{1,9}", value: Vec<u8>, garbage: Vec<u8>) {
            let mut pax = Pax::default();
            pax.put(key.as_bytes(), &value);
            prop_assert_eq!(Pax::decode(&pax.encode()), Ok(pax));
            prop_assert_eq!(decode_name(&encode_name(&value)), value);
            let _ = Pax::decode(&garbage);
        }
    }
}
