//! Which module of the library may use which: the table of `ARCHITECTURE.md`, executable.

use super::Complaint;
use super::source::Source;

/// From the bottom up. A module may use those of the rows before its own, never one beside it or
/// above.
const LAYERS: [&[&str]; 13] = [
    &["documentation", "guard", "halves", "info", "interest", "name", "sync"],
    &["error"],
    &["machine", "sys", "trace"],
    &["moment"],
    &["security"],
    &["coop", "directory", "driver", "retry"],
    &["stream"],
    &["pipe_end", "tasks"],
    &["client", "server"],
    // Above the ends, because options create and open them: Tokio's signatures say so.
    &["options"],
    &["connect_info", "pair"],
    &["blocking", "listener", "message", "readiness"],
    &["axum", "futures_io", "hyper_util", "tokio", "tonic"],
];

/// The row from which a module may use what the crate re-exports at its root, the public types.
const USES_PUBLIC_TYPES: usize = 9;

/// The uses in `source`, a file of the library's `src`, that do not point downwards.
pub(super) fn upward<'a>(inside: &'a str, source: &'a Source) -> Box<dyn Iterator<Item = Complaint> + 'a> {
    let module = inside.split('/').next().unwrap_or(inside).trim_end_matches(".rs");
    if module == "lib" {
        return Box::new(std::iter::empty());
    }
    let Some(own) = layer(module) else {
        let complaint = format!("module `{module}` has no layer; give it one in xtask/src/tidy/layers.rs");
        return Box::new(std::iter::once((1, complaint)));
    };
    let upward = source.crate_paths().filter(move |(_, used)| *used != module && !may_use(own, used));
    Box::new(upward.map(move |(line, used)| {
        (line, format!("`{module}` may not use `{used}`: dependencies point downwards only"))
    }))
}

fn may_use(own: usize, used: &str) -> bool {
    match layer(used) {
        Some(other) => other < own,
        None if used.starts_with(char::is_uppercase) => own >= USES_PUBLIC_TYPES,
        // A macro or an item of the root; a module would have been complained about in its own file.
        None => true,
    }
}

fn layer(module: &str) -> Option<usize> {
    LAYERS.iter().position(|modules| modules.contains(&module))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn complaints(inside: &str, code: &str) -> usize {
        upward(inside, &Source::new(code)).count()
    }

    #[test]
    fn downwards_is_allowed() {
        assert_eq!(
            complaints("stream/read.rs", "use crate::driver::Driver;\nuse crate::machine::ReadAhead;"),
            0
        );
        assert_eq!(complaints("driver/mod.rs", "use crate::sys;\nuse crate::sync::Arc;"), 0);
        assert_eq!(complaints("stream/read.rs", "use crate::stream::write;"), 0);
        assert_eq!(complaints("tokio.rs", "use crate::{NamedPipeClient, NamedPipeServer};"), 0);
    }

    #[test]
    fn upwards_and_sideways_are_not() {
        assert_eq!(complaints("driver/mod.rs", "use crate::stream::Stream;"), 1);
        assert_eq!(complaints("sys/io.rs", "use crate::machine::Verdict;"), 1);
        assert_eq!(complaints("machine/slot.rs", "use crate::sys;"), 1);
        assert_eq!(complaints("server.rs", "use crate::client::ClientOptions;"), 1);
        assert_eq!(complaints("stream/mod.rs", "fn f() -> crate::NamedPipeServer {}"), 1);
    }

    #[test]
    fn a_new_module_must_find_its_layer() {
        assert_eq!(complaints("novelty.rs", ""), 1);
        assert_eq!(complaints("lib.rs", "use crate::tokio;"), 0);
    }
}
