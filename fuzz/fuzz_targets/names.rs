//! `cargo +nightly fuzz run names`: names in any form. An accepted name is in the form that Windows
//! takes, has no component that Windows resolves, and does not change when it is parsed again.
#![no_main]

use libfuzzer_sys::fuzz_target;
use npipe::PipeName;

fuzz_target!(|name: &str| {
    let Ok(parsed) = PipeName::new(name) else { return };
    let text = parsed.to_string();
    assert!(text.starts_with(r"\\"), "{name:?} became {text:?}");
    assert!(text.encode_utf16().count() <= 256 && !text.contains('\0'));
    let components = text.split('\\').skip(4).filter(|component| !component.is_empty());
    assert!(components.clone().all(|component| !component.chars().all(|char| matches!(char, '.' | ' '))), "{text:?}");
    assert_ne!(components.count(), 0, "{text:?}");
    assert_eq!(PipeName::new(&text).unwrap(), parsed);
});
