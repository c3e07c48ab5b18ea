//! From the machine's own apt sources, those of another suite of the same archive.
//!
//! The archive's address, its mirror and its keys differ from machine to machine and are none of
//! our business: we take what is configured and replace the suite. Pure text in, text out.

/// A source in apt's deb822 format for each mirror of the Debian archive that `configured` (the
/// text of a `.sources` or `.list` file) names, with `suite` in place of its suites.
pub(super) fn with_suite(configured: &str, suite: &str) -> Vec<String> {
    stanzas(configured)
        .into_iter()
        .chain(configured.lines().filter_map(one_line))
        .filter(Source::is_debian_archive)
        .map(|source| source.render(suite))
        .collect()
}

#[derive(Default)]
struct Source {
    uris: String,
    suites: String,
    signed_by: Option<String>,
}

impl Source {
    /// The main archive: other vendors' have no Debian suites, and the security archive holds no
    /// backports.
    fn is_debian_archive(&self) -> bool {
        let from_debian = self.uris.split_whitespace().any(|uri| {
            let path = uri.trim_end_matches('/');
            path.ends_with("/debian")
        });
        from_debian && !self.suites.contains("-security") && !self.suites.ends_with('/')
    }

    fn render(&self, suite: &str) -> String {
        let mut text = format!("Types: deb\nURIs: {}\nSuites: {suite}\nComponents: main\n", self.uris);
        if let Some(key) = &self.signed_by {
            text.push_str(&format!("Signed-By: {key}\n"));
        }
        text
    }
}

/// The stanzas of a file in the deb822 format; none of one in the one-line format.
fn stanzas(text: &str) -> Vec<Source> {
    let mut sources = Vec::new();
    let without_comments = text.lines().filter(|line| !line.starts_with('#')).collect::<Vec<_>>().join("\n");
    for stanza in without_comments.split("\n\n") {
        let mut source = Source::default();
        let mut is_binary = false;
        let mut is_enabled = true;
        for (field, value) in stanza.lines().filter_map(|line| line.split_once(':')) {
            let value = value.trim().to_owned();
            match field.to_ascii_lowercase().as_str() {
                "types" => is_binary = value.split_whitespace().any(|kind| kind == "deb"),
                "enabled" => is_enabled = value != "no",
                "uris" => source.uris = value,
                "suites" => source.suites = value,
                // A key that is written out instead of named would span lines.
                "signed-by" if value.starts_with('/') => source.signed_by = Some(value),
                _ => {}
            }
        }
        if is_binary && is_enabled && !source.uris.is_empty() {
            sources.push(source);
        }
    }
    sources
}

/// `deb [option=value ...] URI SUITE COMPONENT...`
fn one_line(line: &str) -> Option<Source> {
    let rest = line.trim().strip_prefix("deb ")?.trim_start();
    let (options, rest) = match rest.strip_prefix('[') {
        Some(bracketed) => bracketed.split_once(']')?,
        None => ("", rest),
    };
    let mut words = rest.split_whitespace();
    let uris = words.next()?.to_owned();
    let suites = words.next()?.to_owned();
    let signed_by =
        options.split_whitespace().find_map(|option| option.strip_prefix("signed-by=")).map(str::to_owned);
    Some(Source { uris, suites, signed_by })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_deb822_file_gives_its_main_archive_with_its_key() {
        let configured = "\
Types: deb
# a comment inside
URIs: http://mirror.example/debian
Suites: bookworm bookworm-updates
Components: main
Signed-By: /usr/share/keyrings/archive.gpg

Types: deb
URIs: http://mirror.example/debian-security
Suites: bookworm-security
Components: main
";
        assert_eq!(
            with_suite(configured, "trixie-backports"),
            ["Types: deb\nURIs: http://mirror.example/debian\nSuites: trixie-backports\nComponents: main\n\
             Signed-By: /usr/share/keyrings/archive.gpg\n"]
        );
    }

    #[test]
    fn a_one_line_file_does_too() {
        let configured = "\
# deb http://commented.example/debian bookworm main
deb-src http://mirror.example/debian bookworm main
deb [arch=amd64 signed-by=/etc/key.gpg] http://mirror.example/debian/ bookworm main contrib
deb http://security.example/debian-security bookworm-security main
";
        assert_eq!(
            with_suite(configured, "sid"),
            ["Types: deb\nURIs: http://mirror.example/debian/\nSuites: sid\nComponents: main\n\
             Signed-By: /etc/key.gpg\n"]
        );
    }

    #[test]
    fn other_vendors_and_disabled_sources_give_nothing() {
        let vendors = "deb https://packages.example/apt tool-bookworm main\n";
        let flat = "deb https://packages.example/debian binary/ \n";
        let disabled = "Types: deb\nURIs: http://mirror.example/debian\nSuites: bookworm\nEnabled: no\n";
        let sources = "Types: deb-src\nURIs: http://mirror.example/debian\nSuites: bookworm\n";
        for configured in [vendors, flat, disabled, sources, ""] {
            assert_eq!(with_suite(configured, "sid"), [""; 0], "{configured}");
        }
    }
}
