//! Rust source with comments and literals blanked, so that what remains is code. No parser: the
//! rules need only words.

/// Code, line for line where it was, up to the unit tests, which stand last in a file.
pub(super) struct Source {
    code: String,
}

impl Source {
    pub(super) fn new(text: &str) -> Self {
        let mut code = blanked(text);
        if let Some(tests) = code.find("\n#[cfg(test)]\nmod ") {
            code.truncate(tests + 1);
        }
        Self { code }
    }

    /// Line numbers, from 1, and the code in them.
    pub(super) fn lines(&self) -> impl Iterator<Item = (usize, &str)> {
        (1..).zip(self.code.lines())
    }

    /// The modules named by a path from the crate's root, with the line: `a` and `b` in `use
    /// crate::{a, b::c}`.
    pub(super) fn crate_paths(&self) -> impl Iterator<Item = (usize, &str)> {
        self.code.match_indices("crate::").flat_map(|(start, found)| {
            let line = 1 + self.code[..start].matches('\n').count();
            heads(&self.code[start + found.len()..]).into_iter().map(move |head| (line, head))
        })
    }
}

/// The identifiers and keywords of a line.
pub(super) fn words(line: &str) -> impl Iterator<Item = &str> {
    line.split(|character: char| !is_identifier(character)).filter(|word| !word.is_empty())
}

/// The function whose declaration stands in `line`.
pub(super) fn function_declared_in(line: &str) -> Option<&str> {
    words(line).skip_while(|word| *word != "fn").nth(1)
}

/// The first identifiers of a path or of the paths in a group.
fn heads(path: &str) -> Vec<&str> {
    let Some(group) = path.strip_prefix('{') else { return words(path).take(1).collect() };
    let mut depth = 0;
    let mut start = 0;
    let mut members = Vec::new();
    for (index, character) in group.char_indices() {
        match character {
            '{' => depth += 1,
            '}' if depth == 0 => {
                members.push(&group[start..index]);
                start = group.len();
                break;
            }
            '}' => depth -= 1,
            ',' if depth == 0 => {
                members.push(&group[start..index]);
                start = index + 1;
            }
            _ => {}
        }
    }
    members.push(&group[start..]);
    members.into_iter().filter_map(|member| words(member).next()).collect()
}

fn is_identifier(character: char) -> bool {
    character.is_alphanumeric() || character == '_'
}

/// `text` with blanks for every character of comments and literals; line ends stay.
fn blanked(text: &str) -> String {
    let mut code = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let inside_word = code.chars().next_back().is_some_and(is_identifier);
        let length = if inside_word { 0 } else { literal_length(rest) }.max(comment_length(rest));
        if length == 0 {
            code.push(first);
            rest = &rest[first.len_utf8()..];
        } else {
            code.extend(rest[..length].chars().map(|character| if character == '\n' { '\n' } else { ' ' }));
            rest = &rest[length..];
        }
    }
    code
}

/// The length of the comment that `text` begins with, or 0.
fn comment_length(text: &str) -> usize {
    if text.starts_with("//") {
        return text.find('\n').unwrap_or(text.len());
    }
    if !text.starts_with("/*") {
        return 0;
    }
    let mut depth = 0;
    let mut place = 0;
    while place < text.len() {
        let rest = &text.as_bytes()[place..];
        if rest.starts_with(b"/*") {
            depth += 1;
            place += 2;
        } else if rest.starts_with(b"*/") {
            depth -= 1;
            place += 2;
            if depth == 0 {
                return place;
            }
        } else {
            place += 1;
        }
    }
    text.len()
}

/// The length of the string or character that `text` begins with, or 0. A lifetime is neither.
fn literal_length(text: &str) -> usize {
    let unprefixed = text.trim_start_matches(['b', 'c']);
    let prefix = text.len() - unprefixed.len();
    if prefix > 1 {
        return 0;
    }
    if let Some(raw) = unprefixed.strip_prefix('r') {
        let hashes = raw.len() - raw.trim_start_matches('#').len();
        if raw[hashes..].starts_with('"') {
            let end = format!("\"{}", "#".repeat(hashes));
            let body = &raw[hashes + 1..];
            let length = body.find(&end).map_or(body.len(), |place| place + end.len());
            return prefix + 1 + hashes + 1 + length;
        }
        return 0;
    }
    if unprefixed.starts_with('"') {
        return prefix + quoted_length(unprefixed, '"');
    }
    let mut characters = unprefixed.chars();
    match (characters.next(), characters.next(), characters.next()) {
        (Some('\''), Some('\\'), _) | (Some('\''), Some(_), Some('\'')) => {
            prefix + quoted_length(unprefixed, '\'')
        }
        _ => 0,
    }
}

/// The length of what `text`, which begins with `quote`, has up to the next one that is not
/// escaped.
fn quoted_length(text: &str, quote: char) -> usize {
    let mut escaped = false;
    for (index, character) in text.char_indices().skip(1) {
        match character {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            _ if character == quote => return index + quote.len_utf8(),
            _ => {}
        }
    }
    text.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn literals_of_every_kind_are_blanked_and_lifetimes_stay() {
        let code =
            blanked("a(\"x\\\"y\", 'z', '\\'', b'q', r#\"r\"r\"#, c\"s\") // t\nfn f<'u>(number: &'u v) {}");
        let kept: Vec<&str> = words(&code).collect();
        assert_eq!(kept, ["a", "fn", "f", "u", "number", "u", "v"]);
        assert_eq!(code.lines().count(), 2);
    }

    #[test]
    fn paths_from_the_root_are_found_alone_and_in_groups() {
        let paths = |code: &str| {
            let source = Source::new(code);
            source.crate_paths().map(|(line, head)| (line, head.to_owned())).collect::<Vec<_>>()
        };
        let expected = |heads: &[(usize, &str)]| {
            heads.iter().map(|(line, head)| (*line, (*head).to_owned())).collect::<Vec<_>>()
        };
        assert_eq!(paths("use crate::sync::{Arc, lock};"), expected(&[(1, "sync")]));
        assert_eq!(
            paths("\nuse crate::{\n    name,\n    sys::{self, io},\n    Interest,\n};"),
            expected(&[(2, "name"), (2, "sys"), (2, "Interest")])
        );
        assert_eq!(paths("crate::sys::open(crate::name::parse(y));"), expected(&[(1, "sys"), (1, "name")]));
        assert_eq!(paths("use std::io;"), []);
    }

    #[test]
    fn unit_tests_are_not_looked_at() {
        let source = Source::new("fn a() {}\n#[cfg(test)]\nmod tests { use crate::stream; }\n");
        assert_eq!(source.lines().count(), 1);
    }
}
