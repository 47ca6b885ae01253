//! Which places of its own crate a file of product code names: `use` trees of any nesting, and paths within code. Comments
//! and texts name nothing; what is only compiled for tests is left out.

use std::str::FromStr;

use proc_macro2::{Delimiter, TokenStream, TokenTree};

/// What a file was found to name.
#[derive(Debug, Default)]
pub(super) struct Reading {
    /// Each from the crate's root, such as `gate::Place`; `*` is everything in a place.
    pub(super) paths: Vec<Vec<String>>,
    /// Modules that are compiled for tests alone, from the crate's root.
    pub(super) tests: Vec<Vec<String>>,
    /// Names that the file gives to places of the crate by `pub use`, each with the path that was written.
    pub(super) passed_on: Vec<(String, Vec<String>)>,
}

impl Reading {
    /// Reads the text of the module at `module`, which is empty for the crate's root.
    pub(super) fn of(text: &str, module: &[String]) -> Self {
        let tokens = TokenStream::from_str(text).expect("a source file that compiles");
        let mut this = Self::default();
        this.walk(&tokens.into_iter().collect::<Vec<_>>(), module);
        this
    }

    fn walk(&mut self, tokens: &[TokenTree], module: &[String]) {
        let mut at = 0;
        while let Some(token) = tokens.get(at) {
            let next = tokens.get(at + 1);
            at += 1;
            match (word(token).as_deref(), next) {
                (Some("pub"), next) if is_reach(next) => at += 1,
                (Some("pub"), Some(next)) if word(next).as_deref() == Some("use") => {
                    let mut found = Vec::new();
                    tree(&tokens[at + 1..], &[], &mut found);
                    self.passed_on.extend(found);
                }
                (Some("mod"), Some(name)) if group(tokens.get(at + 1), Delimiter::Brace).is_some() => {
                    let inside: Vec<String> = module.iter().cloned().chain(word(name)).collect();
                    let body = group(tokens.get(at + 1), Delimiter::Brace).unwrap_or_default();
                    self.walk(&body, &inside);
                    at += 2;
                }
                (Some("crate" | "super" | "self"), Some(_)) if is_colons(&tokens[at..]) => {
                    let mut found = Vec::new();
                    tree(&tokens[at - 1..], &[], &mut found);
                    self.paths.extend(found.iter().map(|(_, path)| resolved(path, module)));
                    while is_colons(&tokens[at..]) && tokens.get(at + 2).and_then(word).is_some() {
                        at += 3;
                    }
                }
                _ if is_punct(token, '#') => at = self.attribute(tokens, at, module),
                _ => {
                    if let TokenTree::Group(group) = token {
                        self.walk(&group.stream().into_iter().collect::<Vec<_>>(), module);
                    }
                }
            }
        }
    }

    /// Steps over an attribute, and over what it is on if that is compiled for tests alone. Gives where to go on.
    fn attribute(&mut self, tokens: &[TokenTree], mut at: usize, module: &[String]) -> usize {
        let is_inner = is_punct_at(tokens, at, '!');
        at += usize::from(is_inner);
        let Some(inside) = group(tokens.get(at), Delimiter::Bracket) else { return at };
        at += 1;
        if !is_for_tests(&inside) {
            self.walk(&inside, module);
            return at;
        }
        if is_inner {
            self.tests.push(module.to_vec());
            return tokens.len();
        }
        let mut before = None;
        while let Some(token) = tokens.get(at) {
            at += 1;
            if before.as_deref() == Some("mod") {
                self.tests.push(module.iter().cloned().chain(word(token)).collect());
            }
            let is_body = group(Some(token), Delimiter::Brace).is_some() && before.as_deref() != Some(":");
            if is_punct(token, ';') || is_body {
                break;
            }
            before = Some(token.to_string());
        }
        at
    }
}

/// The `(crate)` or `(in super::super)` after a `pub`.
fn is_reach(token: Option<&TokenTree>) -> bool {
    let inside = group(token, Delimiter::Parenthesis).unwrap_or_default();
    let first = inside.first().and_then(word);
    first.is_some_and(|word| ["crate", "in", "self", "super"].contains(&word.as_str()))
}

/// `cfg(test)`, or `cfg(all(test, …))`.
fn is_for_tests(attribute: &[TokenTree]) -> bool {
    let text: String = attribute.iter().map(ToString::to_string).collect();
    let text: String = text.split_whitespace().collect();
    text == "cfg(test)" || text.starts_with("cfg(all(test,")
}

/// Adds every path of a `use` tree, as written, with the name that it is known by afterwards. It ends where the tree does.
fn tree(tokens: &[TokenTree], before: &[String], found: &mut Vec<(String, Vec<String>)>) {
    let mut path = before.to_vec();
    let mut at = 0;
    loop {
        match tokens.get(at) {
            Some(TokenTree::Group(group)) if group.delimiter() == Delimiter::Brace => {
                let inside: Vec<TokenTree> = group.stream().into_iter().collect();
                for part in inside.split(|token| is_punct(token, ',')).filter(|part| !part.is_empty()) {
                    tree(part, &path, found);
                }
                return;
            }
            Some(token) if is_punct(token, '*') => path.push("*".to_owned()),
            Some(token) => match word(token) {
                // `a::{self}` is `a`.
                Some(word) if word == "self" && !path.is_empty() => {}
                Some(word) => path.push(word),
                None => break,
            },
            None => break,
        }
        at += 1;
        if !is_colons(&tokens[at..]) {
            break;
        }
        at += 2;
    }
    let renamed = tokens.get(at).and_then(word).filter(|word| word == "as");
    let name = renamed.and_then(|_| tokens.get(at + 1)).and_then(word).or_else(|| path.last().cloned());
    found.extend(name.map(|name| (name, path)));
}

/// A written path, from the crate's root.
fn resolved(path: &[String], module: &[String]) -> Vec<String> {
    let mut from: Vec<String> = Vec::new();
    for (at, word) in path.iter().enumerate() {
        match word.as_str() {
            "crate" => {}
            "self" => from = module.to_vec(),
            "super" => {
                if at == 0 {
                    from = module.to_vec();
                }
                from.pop();
            }
            _ => from.push(word.clone()),
        }
    }
    from
}

fn word(token: &TokenTree) -> Option<String> {
    match token {
        TokenTree::Ident(word) => Some(word.to_string()),
        _ => None,
    }
}

fn group(token: Option<&TokenTree>, delimiter: Delimiter) -> Option<Vec<TokenTree>> {
    match token {
        Some(TokenTree::Group(group)) if group.delimiter() == delimiter => {
            Some(group.stream().into_iter().collect())
        }
        _ => None,
    }
}

fn is_punct(token: &TokenTree, mark: char) -> bool {
    matches!(token, TokenTree::Punct(punct) if punct.as_char() == mark)
}

fn is_punct_at(tokens: &[TokenTree], at: usize, mark: char) -> bool {
    tokens.get(at).is_some_and(|token| is_punct(token, mark))
}

fn is_colons(tokens: &[TokenTree]) -> bool {
    is_punct_at(tokens, 0, ':') && is_punct_at(tokens, 1, ':')
}
