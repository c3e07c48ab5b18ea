//! `cargo +nightly fuzz run names`: names in any form. What is accepted is in the system's form, and stays as it is when it
//! is parsed again.
#![no_main]

use libfuzzer_sys::fuzz_target;
use npipe::PipeName;

fuzz_target!(|name: &str| {
    let Ok(parsed) = PipeName::new(name) else { return };
    let text = parsed.to_string();
    assert!(text.starts_with(r"\\"), "{name:?} became {text:?}");
    assert!(text.encode_utf16().count() <= 256 && !text.contains('\0'));
    assert_eq!(PipeName::new(&text).unwrap(), parsed);
});
