#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| lsmfs::fuzzing::run("archive", data));
