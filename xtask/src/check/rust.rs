//! Reads Rust source as tokens: which paths it names and where, without comments and strings, tests told apart.

use std::iter::Peekable;
use std::str::FromStr as _;

use proc_macro2::token_stream::IntoIter;
use proc_macro2::{Delimiter, LexError, TokenStream, TokenTree};

/// What the rules ask of one source file.
#[derive(Debug, Default)]
pub(super) struct Source {
    /// Every path outside tests, `use` trees written out: `use std::{fs, io}` names `std::fs` and `std::io`.
    pub(super) paths: Vec<NamedPath>,
    /// Lines of the keyword `unsafe`, tests included.
    pub(super) unsafe_lines: Vec<usize>,
    /// How many lines belong to items under `#[cfg(test)]`.
    pub(super) test_lines: usize,
}

/// A path in the source, such as `std::time::Instant::now`.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct NamedPath {
    pub(super) segments: Vec<String>,
    pub(super) line: usize,
    /// Named by a `use`; a lone word elsewhere may be anything.
    pub(super) import: bool,
}

/// One token, as far as paths go.
#[derive(Debug)]
struct Token {
    kind: Kind,
    line: usize,
    test: bool,
}

#[derive(Debug, PartialEq, Eq)]
enum Kind {
    Word(String),
    /// `::`
    Sep,
    Open,
    Close,
    Comma,
    Other,
}

impl Source {
    /// Reads a file.
    ///
    /// # Errors
    /// It is not Rust.
    pub(super) fn parse(text: &str) -> Result<Self, LexError> {
        let mut tokens = Vec::new();
        let test_lines = flatten(TokenStream::from_str(text)?, false, &mut tokens);
        let unsafe_lines = tokens.iter().filter(|token| token.is("unsafe")).map(|token| token.line).collect();
        tokens.retain(|token| !token.test);
        Ok(Self { paths: Reader { tokens, at: 0, paths: Vec::new() }.read(), unsafe_lines, test_lines })
    }
}

impl Token {
    fn is(&self, text: &str) -> bool {
        matches!(&self.kind, Kind::Word(word) if word == text)
    }
}

/// Writes the tokens of `stream` in one row to `out`. Returns how many lines items under `#[cfg(test)]` take.
fn flatten(stream: TokenStream, test: bool, out: &mut Vec<Token>) -> usize {
    let mut test_lines = 0;
    let mut trees = stream.into_iter().peekable();
    while let Some(tree) = trees.next() {
        let line = tree.span().start().line;
        let kind = match tree {
            TokenTree::Punct(mark) if mark.as_char() == '#' && is_cfg_test(trees.peek()) => {
                let (item, last) = rest_of_item(&mut trees);
                flatten(item, true, out);
                test_lines += last.saturating_sub(line) + 1;
                continue;
            }
            TokenTree::Group(group) => {
                out.push(Token { kind: Kind::Open, line, test });
                test_lines += flatten(group.stream(), test, out);
                Kind::Close
            }
            TokenTree::Ident(word) => Kind::Word(word.to_string()),
            TokenTree::Punct(mark) if mark.as_char() == ':' && is_mark(trees.peek(), ':') => {
                trees.next();
                Kind::Sep
            }
            TokenTree::Punct(mark) if mark.as_char() == ',' => Kind::Comma,
            TokenTree::Punct(_) | TokenTree::Literal(_) => Kind::Other,
        };
        out.push(Token { kind, line, test });
    }
    if test { 0 } else { test_lines }
}

/// `[cfg(test)]` or `[cfg(all(test, …))]`, after the `#`.
fn is_cfg_test(tree: Option<&TokenTree>) -> bool {
    let Some(TokenTree::Group(group)) = tree else { return false };
    let attribute: String = group.stream().to_string().split_whitespace().collect();
    group.delimiter() == Delimiter::Bracket
        && (attribute == "cfg(test)" || attribute.starts_with("cfg(all(test,"))
}

fn is_mark(tree: Option<&TokenTree>, mark: char) -> bool {
    matches!(tree, Some(TokenTree::Punct(found)) if found.as_char() == mark)
}

/// Takes the rest of an item, its attributes first, and the number of its last line. An item ends with its first
/// block or semicolon.
fn rest_of_item(trees: &mut Peekable<IntoIter>) -> (TokenStream, usize) {
    let (mut item, mut last) = (TokenStream::new(), 0);
    for tree in trees {
        last = tree.span().end().line;
        let ends = match &tree {
            TokenTree::Group(group) => group.delimiter() == Delimiter::Brace,
            TokenTree::Punct(mark) => mark.as_char() == ';',
            _ => false,
        };
        item.extend([tree]);
        if ends {
            break;
        }
    }
    (item, last)
}

/// Collects paths from a row of tokens.
#[derive(Debug)]
struct Reader {
    tokens: Vec<Token>,
    at: usize,
    paths: Vec<NamedPath>,
}

impl Reader {
    fn read(mut self) -> Vec<NamedPath> {
        while let Some(token) = self.tokens.get(self.at) {
            if token.is("use") {
                self.at += 1;
                // In `impl Trait + use<'a>` nothing that follows is a path.
                self.use_tree(&[]);
            } else if let Some((segments, line)) = self.words() {
                self.paths.push(NamedPath { segments, line, import: false });
            } else {
                self.at += 1;
            }
        }
        self.paths
    }

    fn kind(&self) -> Option<&Kind> {
        self.tokens.get(self.at).map(|token| &token.kind)
    }

    /// Takes `a::b::c`, and a `::` that may stand before or after it.
    fn words(&mut self) -> Option<(Vec<String>, usize)> {
        let line = self.tokens.get(self.at)?.line;
        let mut segments = Vec::new();
        loop {
            match self.tokens.get(self.at).map(|token| &token.kind) {
                Some(Kind::Word(word)) if segments.is_empty() || self.after_sep() => {
                    segments.push(word.clone())
                }
                Some(Kind::Sep) if segments.is_empty() || !self.after_sep() => {}
                _ => break,
            }
            self.at += 1;
        }
        (!segments.is_empty()).then_some((segments, line))
    }

    fn after_sep(&self) -> bool {
        self.at
            .checked_sub(1)
            .and_then(|before| self.tokens.get(before))
            .is_some_and(|token| token.kind == Kind::Sep)
    }

    /// Takes one branch of a `use` tree whose path so far is `prefix`.
    fn use_tree(&mut self, prefix: &[String]) {
        let line = self.tokens.get(self.at).map_or(0, |token| token.line);
        let (words, line) = self.words().unwrap_or((Vec::new(), line));
        let segments = [prefix, &words].concat();
        if self.kind() == Some(&Kind::Open) {
            self.at += 1;
            while self.kind().is_some_and(|kind| *kind != Kind::Close) {
                self.use_tree(&segments);
                // Up to the next branch: over `as Name`, `*` and the comma.
                while self.kind().is_some_and(|kind| !matches!(kind, Kind::Comma | Kind::Close)) {
                    self.at += 1;
                }
                self.at += usize::from(self.kind() == Some(&Kind::Comma));
            }
            self.at += 1;
        } else if !words.is_empty() {
            self.paths.push(NamedPath { segments, line, import: true });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn paths(text: &str) -> Vec<String> {
        Source::parse(text).unwrap().paths.into_iter().map(|path| path.segments.join("::")).collect()
    }

    #[test]
    fn use_trees_are_written_out() {
        let text = "use std::{fs, io::{self, Read as _}, net::*};\nuse a::b;";
        assert_eq!(paths(text), ["std::fs", "std::io::self", "std::io::Read", "std::net", "a::b"]);
        assert_eq!(paths("pub use ::x::{y, z as w,};"), ["pub", "x::y", "x::z"]);
        assert_eq!(
            paths("fn f() -> impl Sized + use<'a> { g::h() }"),
            ["fn", "f", "impl", "Sized", "a", "g::h"]
        );
    }

    #[test]
    fn paths_know_their_lines() {
        let paths =
            Source::parse("fn f() {\n    let a: T =\n        std::time::Instant::now();\n}").unwrap().paths;
        let now = paths.iter().find(|path| path.segments.last().is_some_and(|last| last == "now")).unwrap();
        assert_eq!((now.segments.join("::").as_str(), now.line), ("std::time::Instant::now", 3));
    }

    #[test]
    fn comments_and_strings_name_nothing() {
        let text =
            "//! std::fs\n/* std::fs /* std::fs */ */ const A: &str = r#\"std::fs \" \"#; // std::fs\n";
        assert!(paths(text).iter().all(|path| !path.contains("fs")), "{:?}", paths(text));
    }

    #[test]
    fn tests_are_told_apart() {
        let text = "fn a() { unsafe {} }\n#[cfg(test)]\n#[path = \"x\"]\nmod tests {\n  fn b() { std::fs::read(); unsafe {} }\n}\nfn c() {}\n\
                    #[cfg(test)]\nmod more;\nfn d() {}";
        let source = Source::parse(text).unwrap();
        assert_eq!(source.test_lines, 5 + 2);
        assert_eq!(source.unsafe_lines, [1, 5]);
        let paths = paths(text);
        assert!(paths.iter().any(|path| path == "c") && paths.iter().any(|path| path == "d"));
        assert!(!paths.iter().any(|path| path == "b" || path.starts_with("std")));
    }

    #[test]
    fn not_rust() {
        assert!(Source::parse("fn f( {").is_err());
    }
}
