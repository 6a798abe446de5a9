use super::*;
use crate::fs::entry::MAX_FILE_SIZE;

#[test]
fn ranges_are_cut_at_chunk_bounds() {
    let cut: Vec<_> = pieces(CHUNK_SIZE - 1, CHUNK_SIZE as usize + 2).collect();
    let size = CHUNK_SIZE as usize;
    assert_eq!(
        cut,
        [
            Piece { chunk: 0, within: size - 1..size, of_range: 0..1 },
            Piece { chunk: 1, within: 0..size, of_range: 1..size + 1 },
            Piece { chunk: 2, within: 0..1, of_range: size + 1..size + 2 },
        ]
    );
    assert_eq!(pieces(5, 0).count(), 0);
    let last = pieces(MAX_FILE_SIZE - 1, 1).next().unwrap();
    assert_eq!((last.chunk, last.within), (u32::MAX, size - 1..size));
}

#[test]
fn what_is_not_stored_reads_as_zeros() {
    let stored = Bytes::from_static(b"abc");
    assert_eq!(zero_extended(&stored, 1..3), b"bc"[..]);
    assert_eq!(zero_extended(&stored, 2..5), b"c\0\0"[..]);
    assert_eq!(zero_extended(&stored, 7..9), b"\0\0"[..]);
}

#[test]
fn data_is_laid_over_what_is_stored() {
    assert_eq!(overlay(b"abc", 1, b"X"), b"aXc"[..]);
    assert_eq!(overlay(b"abc", 2, b"XY"), b"abXY"[..]);
    assert_eq!(overlay(b"abc", 5, b"X"), b"abc\0\0X"[..]);
}

#[test]
fn a_chunk_has_pages_up_to_the_files_end() {
    let of = |size, number| Pages::of_chunk(size, number).count();
    assert_eq!((of(0, 0), of(1, 0), of(4096, 0), of(4097, 0)), (0, 1, 1, 2));
    assert_eq!((of(CHUNK_SIZE, 0), of(CHUNK_SIZE, 1), of(CHUNK_SIZE + 1, 1)), (16, 0, 1));
    assert_eq!(of(MAX_FILE_SIZE, u32::MAX), 16);
}

#[test]
fn a_page_map_that_no_writer_writes_is_refused() {
    let all = Pages::of_chunk(3 * PAGE_SIZE, 0);
    let read = |bits| mapped_pages(b"k", &encode_page_map(bits), all);
    assert_eq!(read(0b101).unwrap(), Pages(0b101));
    for bad in [0, 0b111, 0b1000, 0b1001] {
        assert!(matches!(read(bad), Err(Cause::BadRecord { .. })), "{bad:b}");
    }
    assert!(mapped_pages(b"k", b"\x02\x00\x01", all).is_err());
    assert!(mapped_pages(b"k", b"\x01\x00", all).is_err());
}
