//! Which file of the host imports which, as the compiler would find it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use syn::visit::{self, Visit};
use syn::{ItemMod, ItemUse, UseTree, Visibility};

/// The path of a module that is a file: `plugin`, `slot`.
type Module = Vec<String>;

/// The modules that each module imports from.
pub(crate) type Graph = BTreeMap<Module, BTreeSet<Module>>;

/// Reads all sources but `lib.rs` and `main.rs`.
pub(crate) fn graph(root: &Path) -> Graph {
    let mut files = BTreeMap::new();
    read(root, &mut Vec::new(), &mut files);
    let modules: BTreeSet<Module> = files.keys().cloned().collect();
    files
        .into_iter()
        .map(|(module, text)| {
            let file = syn::parse_file(&text).expect("Rust");
            let mut imports = Imports {
                modules: &modules,
                file: &module,
                inline: Vec::new(),
                found: BTreeSet::new(),
            };
            imports.visit_file(&file);
            let found = imports.found;
            (module, found)
        })
        .collect()
}

/// A circle of imports, by the modules' paths, if there is one.
pub(crate) fn circle(graph: &Graph) -> Option<Vec<String>> {
    let mut done = BTreeSet::new();
    let start = |module| walk(graph, module, &mut Vec::new(), &mut done);
    let circle = graph.keys().find_map(start)?;
    Some(circle.iter().map(|module| module.join("::")).collect())
}

fn walk<'a>(
    graph: &'a Graph,
    module: &'a Module,
    path: &mut Vec<&'a Module>,
    done: &mut BTreeSet<&'a Module>,
) -> Option<Vec<&'a Module>> {
    if let Some(begin) = path.iter().position(|other| *other == module) {
        path.push(module);
        return Some(path.split_off(begin));
    }
    if !done.insert(module) {
        return None;
    }
    path.push(module);
    let circle = graph[module]
        .iter()
        .find_map(|imported| walk(graph, imported, path, done));
    path.pop();
    circle
}

fn read(folder: &Path, module: &mut Module, files: &mut BTreeMap<Module, String>) {
    for entry in std::fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        let name = path.file_stem().expect("a name").to_string_lossy();
        module.push(name.into_owned());
        if path.is_dir() {
            read(&path, module, files);
        } else if path.extension().is_some_and(|extension| extension == "rs")
            && !["lib", "main"].contains(&module[0].as_str())
        {
            let text = std::fs::read_to_string(&path).expect("a source file");
            files.insert(module.clone(), text);
        }
        module.pop();
    }
}

struct Imports<'a> {
    modules: &'a BTreeSet<Module>,
    file: &'a Module,
    /// The modules within the file that the visitor is in.
    inline: Vec<String>,
    found: BTreeSet<Module>,
}

impl Imports<'_> {
    /// Notes the file that a path leads to.
    fn note(&mut self, path: &[String]) {
        let (at, rest) = match path.first().map(String::as_str) {
            Some("crate") => (Vec::new(), &path[1..]),
            Some("self") => (self.here(), &path[1..]),
            Some("super") => {
                let ups = path.iter().take_while(|part| *part == "super").count();
                let mut at = self.here();
                at.truncate(at.len().saturating_sub(ups));
                (at, &path[ups..])
            }
            // A module of this file, or another crate.
            _ => (self.here(), path),
        };
        let full: Module = at.iter().chain(rest).cloned().collect();
        let longest = (1..=full.len())
            .rev()
            .map(|length| &full[..length])
            .find(|path| self.modules.contains(*path));
        if let Some(found) = longest.filter(|found| found != self.file) {
            let is_parent_by_chance = path
                .first()
                .is_some_and(|first| !["crate", "self", "super"].contains(&first.as_str()))
                && found.len() <= self.file.len();
            if !is_parent_by_chance {
                self.found.insert(found.to_vec());
            }
        }
    }

    fn here(&self) -> Module {
        self.file.iter().chain(&self.inline).cloned().collect()
    }

    fn note_tree(&mut self, tree: &UseTree, path: &mut Vec<String>) {
        match tree {
            UseTree::Path(part) => {
                path.push(part.ident.to_string());
                self.note_tree(&part.tree, path);
                path.pop();
            }
            UseTree::Group(group) => {
                for tree in &group.items {
                    self.note_tree(tree, path);
                }
            }
            UseTree::Name(name) if name.ident == "self" => self.note(path),
            UseTree::Name(name) => {
                self.note(&[path.as_slice(), &[name.ident.to_string()]].concat())
            }
            UseTree::Rename(name) => {
                self.note(&[path.as_slice(), &[name.ident.to_string()]].concat());
            }
            UseTree::Glob(_) => self.note(path),
        }
    }
}

impl<'ast> Visit<'ast> for Imports<'_> {
    fn visit_item_use(&mut self, item: &'ast ItemUse) {
        self.note_tree(&item.tree, &mut Vec::new());
    }

    fn visit_path(&mut self, path: &'ast syn::Path) {
        let parts: Vec<_> = path
            .segments
            .iter()
            .map(|segment| segment.ident.to_string())
            .collect();
        self.note(&parts);
        visit::visit_path(self, path);
    }

    fn visit_item_mod(&mut self, module: &'ast ItemMod) {
        let is_test = module.attrs.iter().any(|attribute| {
            attribute.path().is_ident("cfg")
                && attribute
                    .meta
                    .require_list()
                    .is_ok_and(|list| list.tokens.to_string() == "test")
        });
        if is_test || module.content.is_none() {
            return;
        }
        self.inline.push(module.ident.to_string());
        visit::visit_item_mod(self, module);
        self.inline.pop();
    }

    /// `pub(in …)` imports nothing.
    fn visit_visibility(&mut self, _: &'ast Visibility) {}
}
