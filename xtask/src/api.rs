//! `cargo xtask api`: the list of the library's public items, kept in the repository so that a
//! change of it is seen.
//!
//! rustdoc's JSON says which items are public, under which paths, and where they are in the source;
//! their signatures are the text there. So little depends on the version of that format, which
//! changes with the compiler. It is unstable: the stable compiler writes it with `RUSTC_BOOTSTRAP`.
//! The item of a dependency that a public signature names is listed as the source names it.

use std::collections::{BTreeSet, HashMap};
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::process::{BUILD_LIMIT, output_of};
use crate::progress::Report;
use crate::setup;
use crate::windows::{GNU, Windows};
use crate::workspace::Workspace;

const LIST: &str = "docs/public-api.txt";

/// Whether to check or to write the list.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// Write docs/public-api.txt instead of comparing with it
    #[arg(long)]
    update: bool,
}

pub(crate) fn run(workspace: &Workspace, report: &mut Report, options: &Options) -> Result<()> {
    let windows = setup::everything(workspace, report)?;
    if options.update {
        let list = report.require("public API: list", |step| list(workspace, step, &windows))?;
        let path = workspace.root.join(LIST);
        return fs::write(&path, list).with_context(|| format!("failed to write {}", path.display()));
    }
    check(workspace, report, &windows);
    Ok(())
}

/// Compares the list in the repository with the public items.
pub(crate) fn check(workspace: &Workspace, report: &mut Report, windows: &Windows) {
    report.attempt("public API", |step| {
        let now = list(workspace, step, windows)?;
        let recorded = fs::read_to_string(workspace.root.join(LIST)).unwrap_or_default();
        let changes = changes(&recorded.replace("\r\n", "\n"), &now);
        if !changes.is_empty() {
            bail!("the public API differs from {LIST}; if that is meant, `cargo xtask api --update` writes it:\n{changes}");
        }
        Ok(())
    });
}

/// The lines of one text that the other lacks, as a diff shows them.
fn changes(before: &str, after: &str) -> String {
    let (old, new): (Vec<_>, Vec<_>) = (before.lines().collect(), after.lines().collect());
    let start = old.iter().zip(&new).take_while(|(old, new)| old == new).count();
    let same = |(old, new): &(&&str, &&str)| old == new;
    let end = old[start..].iter().rev().zip(new[start..].iter().rev()).take_while(same).count();
    let removed = old[start..old.len() - end].iter().map(|line| format!("-{line}\n"));
    let added = new[start..new.len() - end].iter().map(|line| format!("+{line}\n"));
    removed.chain(added).collect()
}

fn list(workspace: &Workspace, step: &crate::progress::Step, windows: &Windows) -> Result<String> {
    // Not the main directory: `RUSTC_BOOTSTRAP` makes build scripts take the compiler for a nightly.
    let target = workspace.cache.join("target").join("api");
    let mut rustdoc = windows.cargo(workspace, "rustdoc");
    rustdoc.args(["--package", "npipe", "--lib", "--all-features", "--target-dir"]).arg(&target);
    rustdoc.args(["--", "-Zunstable-options", "--output-format", "json"]).env("RUSTC_BOOTSTRAP", "1");
    output_of(step, &mut rustdoc, BUILD_LIMIT)?;
    let json = match windows {
        Windows::Native => target.join("doc/npipe.json"),
        Windows::Wine { .. } => target.join(GNU).join("doc/npipe.json"),
    };
    let text = fs::read_to_string(&json).with_context(|| format!("failed to read {}", json.display()))?;
    let json: Value = serde_json::from_str(&text).context("failed to parse rustdoc's JSON")?;
    Items { root: &workspace.root, index: &json["index"], sources: HashMap::new(), paths: HashMap::new() }
        .crate_root(&json["root"])
}

struct Items<'a> {
    root: &'a Path,
    index: &'a Value,
    /// The lines of source files.
    sources: HashMap<PathBuf, Vec<String>>,
    /// Under which path an item has been listed.
    paths: HashMap<String, String>,
}

impl<'a> Items<'a> {
    fn crate_root(&mut self, root: &Value) -> Result<String> {
        let root = self.get(root).context("rustdoc's JSON has no root")?;
        let mut list = String::new();
        self.module("npipe", root, &mut list)?;
        Ok(list)
    }

    /// `None`: an item of another crate, or one that is not public.
    fn get(&self, id: &Value) -> Option<&'a Value> {
        let id = id.as_str().map_or_else(|| id.to_string(), str::to_owned);
        self.index.get(id)
    }

    fn module(&mut self, path: &str, module: &'a Value, list: &mut String) -> Result<()> {
        let mut items = Vec::new();
        for id in ids(&module["inner"]["module"]["items"]) {
            let Some(item) = self.get(id) else { continue };
            match inner(item) {
                ("use", import) => match self.get(&import["id"]) {
                    Some(target) => items.push((text(&import["name"]), &import["id"], target)),
                    None => list.push_str(&format!("{path}: pub use {}\n", text(&import["source"]))),
                },
                _ => items.push((text(&item["name"]), id, item)),
            }
        }
        items.sort_by_key(|(name, _, item)| (inner(item).0 == "module", *name));
        for (name, id, item) in items {
            let path = format!("{path}::{name}");
            let listed = self.paths.entry(id.to_string()).or_insert_with(|| path.clone());
            if *listed != path {
                list.push_str(&format!("{path} = {listed}\n"));
            } else if inner(item).0 == "module" {
                list.push_str(&format!("{path}: pub mod\n"));
                self.module(&path, item, list)?;
            } else {
                self.item(&path, item, list)?;
            }
        }
        Ok(())
    }

    fn item(&mut self, path: &str, item: &'a Value, list: &mut String) -> Result<()> {
        list.push_str(&format!("{path}: {}\n", self.signature(item)?));
        let (_, inner) = inner(item);
        for key in ["variants", "items"] {
            self.members(&inner[key], list)?;
        }
        self.members(&inner["kind"]["plain"]["fields"], list)?;
        self.members(&inner["kind"]["tuple"], list)?;
        // Of each trait once, in the order of the text.
        let mut impls = BTreeSet::new();
        for id in ids(&inner["impls"]).chain(ids(&inner["implementations"])) {
            let Some(block) = self.get(id) else { continue };
            let implementation = &block["inner"]["impl"];
            let is_ours = implementation["is_synthetic"] == false && implementation["blanket_impl"].is_null();
            let of = text(&implementation["trait"]["path"]);
            // The compiler's own mark of a derived `PartialEq`.
            if !is_ours || block["crate_id"] != 0 || of == "StructuralPartialEq" {
                continue;
            }
            let mut header = self.signature(block)?;
            if !header.contains("impl") {
                header = format!("impl {of} (derived)");
            }
            let mut lines = format!("    {header}\n");
            if of.is_empty() {
                self.members(&implementation["items"], &mut lines)?;
            }
            impls.insert(lines);
        }
        list.extend(impls);
        Ok(())
    }

    /// The fields, variants or functions inside an item.
    fn members(&mut self, members: &'a Value, list: &mut String) -> Result<()> {
        for id in ids(members) {
            let Some(member) = self.get(id) else { continue };
            if member["visibility"] == "public" || member["visibility"] == "default" {
                list.push_str(&format!("        {}\n", self.signature(member)?));
                // Of a variant.
                self.members(&inner(member).1["kind"]["struct"]["fields"], list)?;
            }
        }
        Ok(())
    }

    /// The attributes that concern users, and the source up to the body.
    fn signature(&mut self, item: &Value) -> Result<String> {
        let attributes = item["attrs"].to_string();
        let attribute =
            |name: &str| if attributes.contains(name) { format!("#[{name}] ") } else { String::new() };
        let span = &item["span"];
        let source = if span.is_null() { String::new() } else { self.source(span)? };
        let private = match inner(item) {
            // Private fields of a tuple.
            ("struct", inner) if inner["kind"]["tuple"].is_array() => "(",
            _ => "{",
        };
        let end = source.find(private).unwrap_or(source.len());
        let signature = source[..end].split_whitespace().collect::<Vec<_>>().join(" ");
        let signature = signature.trim_end_matches([';', ',']);
        Ok(format!("{}{}{signature}", attribute("must_use"), attribute("non_exhaustive")))
    }

    /// The text at a span, without comments.
    fn source(&mut self, span: &Value) -> Result<String> {
        let path = self.root.join(text(&span["filename"]).replace('\\', "/"));
        if !self.sources.contains_key(&path) {
            let source =
                fs::read_to_string(&path).with_context(|| format!("failed to read {}", path.display()))?;
            self.sources.insert(path.clone(), source.lines().map(str::to_owned).collect());
        }
        let number = |at: &str, place: usize| span[at][place].as_u64().map_or(1, |number| number as usize);
        let (first, last) = (number("begin", 0), number("end", 0));
        let lines = self.sources[&path].iter().enumerate().skip(first - 1).take(last + 1 - first);
        let parts = lines.map(|(index, line)| {
            let end = if index + 1 == last { number("end", 1) - 1 } else { line.len() };
            let start = if index + 1 == first { number("begin", 1) - 1 } else { 0 };
            line.get(start..end).unwrap_or(line)
        });
        let code = parts.filter(|line| !line.trim_start().starts_with("//"));
        Ok(code.collect::<Vec<_>>().join("\n"))
    }
}

/// The kind of an item, and what the format says of that kind.
fn inner(item: &Value) -> (&str, &Value) {
    let inner = item["inner"].as_object().and_then(|inner| inner.iter().next());
    inner.map_or(("", &Value::Null), |(kind, inner)| (kind, inner))
}

fn ids(list: &Value) -> impl Iterator<Item = &Value> {
    list.as_array().into_iter().flatten()
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// A crate whose source is this file's first lines would change with them: it has its own.
    fn list_of(source: &str, index: Value) -> String {
        let folder = std::env::temp_dir().join(format!("npipe-api-{}-{}", std::process::id(), source.len()));
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join("lib.rs"), source).unwrap();
        let mut items =
            Items { root: &folder, index: &index, sources: HashMap::new(), paths: HashMap::new() };
        let list = items.crate_root(&json!(0)).unwrap();
        fs::remove_dir_all(folder).unwrap();
        list
    }

    fn span(begin: [u64; 2], end: [u64; 2]) -> Value {
        json!({ "filename": "lib.rs", "begin": begin, "end": end })
    }

    #[test]
    fn items_are_listed_with_their_signatures_once_and_without_what_is_private() {
        let source = "pub struct Pair(Secret);\nimpl Pair {\n    pub fn new(\n        // Why.\n        one: u8,\n    ) -> Self {\n        Self(one)\n    }\n}\n";
        let index = json!({
            "0": { "name": "npipe", "inner": { "module": { "items": [1, 2, 3] } } },
            "1": { "name": null, "inner": { "use": { "source": "a::Pair", "name": "Pair", "id": 4 } } },
            "2": { "name": null, "inner": { "use": { "source": "other::Item", "name": "Item", "id": 9 } } },
            "3": { "name": "inner", "inner": { "module": { "items": [5] } } },
            "4": { "name": "Pair", "attrs": ["non_exhaustive", { "must_use": { "reason": null } }],
                "span": span([1, 1], [1, 25]), "visibility": "public",
                "inner": { "struct": { "kind": { "tuple": [null] }, "impls": [6, 7, 8] } } },
            "5": { "name": null, "inner": { "use": { "source": "a::Pair", "name": "Twin", "id": 4 } } },
            "6": { "crate_id": 0, "attrs": [], "span": span([2, 1], [9, 2]),
                "inner": { "impl": { "is_synthetic": false, "blanket_impl": null, "trait": null, "items": [10] } } },
            "7": { "crate_id": 0, "attrs": [], "span": null,
                "inner": { "impl": { "is_synthetic": false, "blanket_impl": null, "trait": { "path": "Clone" }, "items": [] } } },
            "8": { "crate_id": 0, "attrs": [], "span": null,
                "inner": { "impl": { "is_synthetic": true, "blanket_impl": null, "trait": { "path": "Send" }, "items": [] } } },
            "10": { "name": "new", "attrs": [], "span": span([3, 5], [8, 6]), "visibility": "public",
                "inner": { "function": {} } },
        });
        let expected = "npipe: pub use other::Item\n\
             npipe::Pair: #[must_use] #[non_exhaustive] pub struct Pair\n    \
                 impl Clone (derived)\n    \
                 impl Pair\n        \
                     pub fn new( one: u8, ) -> Self\n\
             npipe::inner: pub mod\n\
             npipe::inner::Twin = npipe::Pair\n";
        assert_eq!(list_of(source, index), expected);
    }

    #[test]
    fn a_change_is_shown_as_the_lines_that_differ() {
        assert_eq!(changes("a\nb\nc\n", "a\nb\nc\n"), "");
        assert_eq!(changes("a\nb\nc\n", "a\nx\ny\nc\n"), "-b\n+x\n+y\n");
        assert_eq!(changes("", "a\n"), "+a\n");
        assert_eq!(changes("a\na\n", "a\n"), "-a\n");
    }
}
