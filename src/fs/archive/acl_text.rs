//! Access control lists as text, as archives hold them: `user::rw-,user:1000:r--,group::r--,mask::r--,other::---`.
//!
//! Users and groups stand by number, or by name (looked up in the system's `/etc/passwd` and `/etc/group`), or
//! by both, the number in a fourth field. An entry for a name that this system does not know, without a number, is left out:
//! nobody here is meant.

use std::fs::read;

const VERSION: u32 = 2;
const ENTRY_LEN: usize = 8;
/// What an entry has in the place of a number that needs none.
const NOBODY: u32 = u32::MAX;

/// Whom an entry is for, by the kernel's numbers: its own, and that of a named one.
const TAGS: [(&str, u16, Option<u16>); 4] =
    [("user", 0x01, Some(0x02)), ("group", 0x04, Some(0x08)), ("mask", 0x10, None), ("other", 0x20, None)];

/// The list as the attribute's bytes; `None` if it makes no sense.
pub fn parse(text: &[u8]) -> Option<Vec<u8>> {
    let mut entries = Vec::new();
    let lines = text.split(|byte| matches!(byte, b',' | b'\n')).map(|line| {
        // Behind a # stands a comment.
        line.split(|byte| *byte == b'#').next().unwrap_or_default().trim_ascii()
    });
    for line in lines.filter(|line| !line.is_empty()) {
        entries.extend(entry(line)?);
    }
    entries.sort_unstable();
    let mut out = VERSION.to_le_bytes().to_vec();
    for (tag, id, perm) in entries {
        out.extend_from_slice(&tag.to_le_bytes());
        out.extend_from_slice(&perm.to_le_bytes());
        out.extend_from_slice(&id.to_le_bytes());
    }
    Some(out)
}

/// The entry of a line, `Some(None)` if it is for nobody here; `None` if it makes no sense.
fn entry(line: &[u8]) -> Option<Option<(u16, u32, u16)>> {
    let fields: Vec<&[u8]> = line.split(|byte| *byte == b':').collect();
    let (&kind, rest) = fields.split_first()?;
    let matches = |name: &str| !kind.is_empty() && name.as_bytes().starts_with(kind);
    let &(kind, own, named) = TAGS.iter().find(|(name, ..)| matches(name))?;
    let (who, perm, number) = match rest {
        // Of mask and other the name may be left out.
        [perm] => (&b""[..], *perm, None),
        [who, perm] => (*who, *perm, None),
        [who, perm, number] => (*who, *perm, Some(*number)),
        _ => return None,
    };
    let mut bits = 0;
    for letter in perm {
        bits |= match letter {
            b'r' => 4,
            b'w' => 2,
            b'x' => 1,
            b'-' => 0,
            _ => return None,
        };
    }
    if who.is_empty() {
        return Some(Some((own, NOBODY, bits)));
    }
    let parse = |text: &[u8]| std::str::from_utf8(text).ok()?.parse().ok();
    let id = match number.filter(|number| !number.is_empty()) {
        Some(number) => Some(parse(number)?),
        None => parse(who).or_else(|| look_up(kind, who)),
    };
    let named = named?;
    Some(id.map(|id| (named, id, bits)))
}

/// The number of a user's or group's name on this system.
fn look_up(kind: &str, name: &[u8]) -> Option<u32> {
    let table = read(if kind == "user" { "/etc/passwd" } else { "/etc/group" }).ok()?;
    let mut lines = table.split(|byte| *byte == b'\n').map(|line| line.split(|byte| *byte == b':'));
    let mut found = lines.find_map(|mut fields| (fields.next() == Some(name)).then_some(fields))?;
    std::str::from_utf8(found.nth(1)?).ok()?.parse().ok()
}

/// The attribute's bytes as text; `None` if they make no sense.
pub fn render(list: &[u8]) -> Option<String> {
    let (version, entries) = list.split_first_chunk::<4>()?;
    if u32::from_le_bytes(*version) != VERSION || entries.len() % ENTRY_LEN != 0 {
        return None;
    }
    let mut lines = Vec::new();
    for entry in entries.chunks_exact(ENTRY_LEN) {
        let tag = u16::from_le_bytes([entry[0], entry[1]]);
        let perm = u16::from_le_bytes([entry[2], entry[3]]);
        let id = u32::from_le_bytes([entry[4], entry[5], entry[6], entry[7]]);
        let &(kind, own, _) = TAGS.iter().find(|(_, own, named)| *own == tag || *named == Some(tag))?;
        let who = if tag == own { String::new() } else { id.to_string() };
        let letter = |bit, letter| if perm & bit != 0 { letter } else { '-' };
        lines.push(format!("{kind}:{who}:{}{}{}", letter(4, 'r'), letter(2, 'w'), letter(1, 'x')));
    }
    Some(lines.join(","))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn lists_are_read_as_programs_write_them() {
        let text = "user::rw-,user:1000:r--,group::r--,group:7:rwx,mask::rwx,other::---";
        let list = parse(text.as_bytes()).unwrap();
        assert_eq!(render(&list).unwrap(), text);
        for same in [
            "u::rw-\nu:1000:r--\ng::r--\ng:7:rwx\nm::rwx\no::---\n",
            "user::rw,user:somebody:r--:1000,group::r,group:some:rwx:7,mask:rwx,other:---",
            "user:1000:r--,user::rw- # a comment,\ngroup::r--,group:7:rwx,mask::rwx,other::---",
        ] {
            assert_eq!(parse(same.as_bytes()).as_ref(), Some(&list), "{same}");
        }
        assert_eq!(parse(b"user:root:r--"), parse(b"user:0:r--"));
        for bad in [
            "user",
            "user::rwz",
            "nobody::r--",
            "user:somebody:r--:many",
            "mask:1:r--",
            "mask:no such:r--",
            ":a:r--",
        ] {
            assert_eq!(parse(bad.as_bytes()), None, "{bad}");
        }
    }

    #[test]
    fn who_is_unknown_here_is_left_out() {
        let list =
            |who: &str| parse(format!("user::rw-,group::r--,{who}mask::rwx,other::---").as_bytes()).unwrap();
        assert_eq!(list("user:no such user at all:rwx,group:nor such a group:r--,"), list(""));
        assert_ne!(list("user:no such user at all:rwx:1234,"), list(""));
    }

    proptest! {
        #[test]
        fn no_bytes_are_a_panic(bytes: Vec<u8>, text in "[ugmo:,r0-9wx# \n-]{0,40}") {
            let _ = (parse(&bytes), render(&bytes), parse(text.as_bytes()));
        }
    }
}
