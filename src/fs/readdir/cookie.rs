//! Cookies: what is told of each entry of a listing, to go on behind it.
//!
//! ```text
//! cookie := 0 | 1 | 2 | index (13 bits) tag (18 bits) | index (36 bits) tag (27 bits)
//! ```
//!
//! 0 is the start; 1 and 2 are behind `.` and `..`. Then `index` is how many entries were read, those two among them, so
//! that cookies rise, and `tag` is from a hash of the last one's name. The shorter form is for indices that fit in
//! it: some programs of 32 bits take no larger offsets.
//!
//! Who listed the directory is asked to go on where it stopped, and the index alone says where that is. But the kernel
//! keeps whole listings, reads them out to others, and may drop them half-way: then somebody is asked to go on who
//! has not seen what was read. Meanwhile names may have come and gone, so that the index is only a guess, and the tag
//! tells which name it was. Nor must the kernel, which looks for a cookie in what it has kept since, find it behind
//! another name.
//!
//! The highest bit stays clear: an offset in a directory is signed.

use xxhash_rust::xxh3::xxh3_64;

const SHORT_TAG_BITS: u32 = 18;
const TAG_BITS: u32 = 27;
const INDEX_MAX: u64 = (1 << (u64::BITS - 1 - TAG_BITS)) - 1;
/// The first index that does not fit in the shorter form, and the first cookie beyond it.
const LONG_INDEX: u64 = 1 << 13;
const LONG: u64 = LONG_INDEX << SHORT_TAG_BITS;

/// Entries that come before the names: `.` and `..`.
pub(super) const DOTS: u64 = 2;

/// Where a listing goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Cookie {
    index: u64,
    tag: u64,
}

impl Cookie {
    /// Behind this many of `.` and `..`.
    pub fn behind_dots(dots: u64) -> Cookie {
        Cookie { index: dots, tag: 0 }
    }

    /// Behind `name`, whose number is `number`, counted from 0.
    pub fn behind(number: u64, name: &[u8]) -> Cookie {
        let index = number + 1 + DOTS;
        assert!(index <= INDEX_MAX, "a directory of more names than a store has room for");
        Cookie { index, tag: tag(name, tag_bits(index)) }
    }

    /// As the kernel is told.
    pub fn encode(self) -> u64 {
        if self.index <= DOTS { self.index } else { self.index << tag_bits(self.index) | self.tag }
    }

    /// As the kernel says. Any number is a cookie, if not one that was told.
    pub fn decode(cookie: u64) -> Cookie {
        let bits = match cookie {
            0..=DOTS => return Cookie::behind_dots(cookie),
            3..LONG => SHORT_TAG_BITS,
            LONG.. => TAG_BITS,
        };
        Cookie { index: (cookie >> bits).max(DOTS), tag: cookie & ((1 << bits) - 1) }
    }

    /// The entries that were read, `.` and `..` among them.
    pub fn index(self) -> u64 {
        self.index
    }

    /// The names that were read.
    pub fn names(self) -> u64 {
        self.index.saturating_sub(DOTS)
    }

    /// May `name` be the last name that was read? True if it is, and hardly ever if it is not.
    pub fn is_behind(self, name: &[u8]) -> bool {
        self.tag == tag(name, tag_bits(self.index))
    }
}

fn tag_bits(index: u64) -> u32 {
    if index < LONG_INDEX { SHORT_TAG_BITS } else { TAG_BITS }
}

fn tag(name: &[u8], bits: u32) -> u64 {
    xxh3_64(name) & ((1 << bits) - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cookies_rise_come_back_as_they_were_and_are_never_negative() {
        let cookies = [
            Cookie::behind_dots(0),
            Cookie::behind_dots(1),
            Cookie::behind_dots(2),
            Cookie::behind(0, b"a"),
            Cookie::behind(1, b"b"),
            Cookie::behind(LONG_INDEX - 2 - DOTS, b"last"),
            Cookie::behind(LONG_INDEX - 1 - DOTS, b"first"),
            Cookie::behind(INDEX_MAX - 1 - DOTS, b"c"),
        ];
        assert!(cookies.is_sorted_by_key(|cookie| cookie.encode()));
        assert!(cookies.iter().all(|cookie| i64::try_from(cookie.encode()).is_ok()));
        assert!(cookies.iter().all(|cookie| Cookie::decode(cookie.encode()) == *cookie));
        let names = [0, 0, 0, 1, 2, LONG_INDEX - 1 - DOTS, LONG_INDEX - DOTS, INDEX_MAX - DOTS];
        assert_eq!(cookies.map(Cookie::names), names);
        assert!(i32::try_from(cookies[5].encode()).is_ok(), "as programs of 32 bits want them");
        assert_eq!(Cookie::behind_dots(0).encode(), 0, "the start");
        for never_told in [DOTS + 1, LONG] {
            assert!(Cookie::decode(never_told).names() < LONG_INDEX);
        }
    }

    #[test]
    fn a_cookie_knows_its_name() {
        for cookie in [Cookie::behind(7, b"name"), Cookie::behind(1 << 20, b"name")] {
            assert!(cookie.is_behind(b"name") && !cookie.is_behind(b"eman"));
        }
    }
}
