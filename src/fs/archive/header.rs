//! A member's header: one block.
//!
//! ```text
//! offset size            offset size
//! 0      100 name        257    6   magic: "ustar\0", or "ustar " (GNU), or nothing (old)
//! 100    8   mode        263    2   version
//! 108    8   owner       265    32  owner's name
//! 116    8   group       297    32  group's name
//! 124    12  length      329    8   device: major
//! 136    12  mtime       337    8   device: minor
//! 148    8   checksum    345    155 the path's start (not GNU)
//! 156    1   type
//! 157    100 link target
//! ```
//!
//! Numbers are octal digits, or if the first byte has its highest bit set the rest is a number in base 256. The
//! checksum is the sum of all bytes, its own taken as blanks.

use super::BLOCK;

/// A block.
pub type Block = [u8; BLOCK];

/// The fields of a header.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Header {
    pub path: Vec<u8>,
    pub link: Vec<u8>,
    pub kind: u8,
    pub mode: u32,
    pub uid: i64,
    pub gid: i64,
    /// The length of what follows.
    pub len: u64,
    pub mtime: i64,
    pub device: (u32, u32),
}

/// Up to the first zero byte.
pub fn text(field: &[u8]) -> &[u8] {
    field.split(|byte| *byte == 0).next().unwrap_or_default()
}

/// A number in a field; `None` if it makes no sense.
pub fn number(field: &[u8]) -> Option<i64> {
    match *field.first()? {
        first if first & 0x80 != 0 => {
            // Two's complement: the second bit is the sign. A field has 12 bytes at most.
            let first = i128::from(first & 0x3f) - i128::from(first & 0x40);
            let rest = field.get(1..).filter(|rest| rest.len() < 15)?;
            i64::try_from(rest.iter().fold(first, |sum, byte| sum << 8 | i128::from(*byte))).ok()
        }
        _ => {
            let digits = text(field).trim_ascii();
            digits.iter().try_fold(0i64, |sum, digit| match digit {
                b'0'..=b'7' => sum.checked_mul(8)?.checked_add(i64::from(digit - b'0')),
                _ => None,
            })
        }
    }
}

/// Writes a number into a field; false if octal digits do not hold it: then they say what they can hold.
pub fn put_number(field: &mut [u8], value: u64) -> bool {
    let digits = field.len() - 1;
    let most = 1u64.checked_shl(3 * digits as u32).map_or(u64::MAX, |end| end - 1);
    let text = format!("{:0digits$o}", value.min(most));
    field[..digits].copy_from_slice(text.as_bytes());
    value <= most
}

fn sum(block: &Block) -> (i64, i64) {
    let bytes =
        block.iter().enumerate().map(|(at, byte)| if (148..156).contains(&at) { b' ' } else { *byte });
    bytes.fold((0, 0), |(sum, signed), byte| (sum + i64::from(byte), signed + i64::from(byte as i8)))
}

impl Header {
    /// Reads a block that is not all zeros.
    pub fn decode(block: &Block) -> Result<Header, &'static str> {
        let stated = number(&block[148..156]);
        let (sum, signed) = sum(block);
        // Some programs once summed up signed bytes.
        if stated != Some(sum) && stated != Some(signed) {
            return Err("not a header of a member: its checksum does not match");
        }
        let field =
            |from: usize, to: usize| number(&block[from..to]).ok_or("a number in a header makes no sense");
        let is_ustar = &block[257..263] == b"ustar\0";
        let is_gnu = &block[257..263] == b"ustar ";
        let name = text(&block[..100]);
        let prefix = if is_ustar { text(&block[345..500]) } else { b"" };
        let path = if prefix.is_empty() { name.to_vec() } else { [prefix, b"/", name].concat() };
        let device = match is_ustar || is_gnu {
            true => (field(329, 337)?, field(337, 345)?),
            false => (0, 0),
        };
        let small = |number: i64| u32::try_from(number).map_err(|_| "a device number is out of range");
        Ok(Header {
            path,
            link: text(&block[157..257]).to_vec(),
            kind: block[156],
            mode: field(100, 108)? as u32 & 0o7777,
            uid: field(108, 116)?,
            gid: field(116, 124)?,
            len: u64::try_from(field(124, 136)?).map_err(|_| "a length is negative")?,
            mtime: field(136, 148)?,
            device: (small(device.0)?, small(device.1)?),
        })
    }

    /// As a block of ustar. What does not fit is cut: a pax header before it says it in full.
    pub fn encode(&self) -> Block {
        let mut block = [0; BLOCK];
        let put = |block: &mut Block, at: usize, len: usize, bytes: &[u8]| {
            let len = bytes.len().min(len);
            block[at..at + len].copy_from_slice(&bytes[..len]);
        };
        put(&mut block, 0, 100, &self.path);
        put_number(&mut block[100..108], self.mode.into());
        put_number(&mut block[108..116], self.uid.max(0) as u64);
        put_number(&mut block[116..124], self.gid.max(0) as u64);
        put_number(&mut block[124..136], self.len);
        put_number(&mut block[136..148], self.mtime.max(0) as u64);
        block[156] = self.kind;
        put(&mut block, 157, 100, &self.link);
        put(&mut block, 257, 8, b"ustar\x0000");
        put_number(&mut block[329..337], self.device.0.into());
        put_number(&mut block[337..345], self.device.1.into());
        let sum = sum(&block).0;
        put(&mut block, 148, 8, format!("{sum:06o}\0 ").as_bytes());
        block
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn numbers_are_read_in_both_forms() {
        for (field, value) in [
            (&b"0000644\0"[..], Some(0o644)),
            (b"   644 \0", Some(0o644)),
            (b"\0\0\0\0\0\0\0\0", Some(0)),
            (b"0000008\0", None),
            (b"7777777777777777777777777", None),
            (b"\x80\0\0\0\0\0\x01\x02", Some(0x102)),
            (b"\xff\xff\xff\xff\xff\xff\xff\xfe", Some(-2)),
            (b"\x80\0\0\0\x7f\xff\xff\xff\xff\xff\xff\xff", Some(i64::MAX)),
            (b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xfd", Some(-3)),
            (b"\x81\0\0\0\0\0\0\0\0\0\0\0", None),
        ] {
            assert_eq!(number(field), value, "{field:?}");
        }
    }

    #[test]
    fn headers_come_back() {
        let header = Header {
            path: b"a/\xff".to_vec(),
            link: b"target".to_vec(),
            kind: b'2',
            mode: 0o4755,
            uid: 1000,
            gid: 0o7777777,
            len: 0o77777777777,
            mtime: 1_700_000_000,
            device: (8, 1),
        };
        assert_eq!(Header::decode(&header.encode()), Ok(header.clone()));
        let mut block = header.encode();
        block[0] ^= 1;
        assert!(Header::decode(&block).is_err());
    }

    proptest! {
        #[test]
        fn no_block_is_a_panic(bytes in prop::collection::vec(any::<u8>(), BLOCK..=BLOCK), right: bool) {
            let mut block: Block = bytes.try_into().unwrap();
            if right {
                let sum = sum(&block).0;
                block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
            }
            let _ = Header::decode(&block);
        }
    }
}
