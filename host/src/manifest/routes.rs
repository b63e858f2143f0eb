//! Routes: the paths of a plugin's clients, in addition to `/NAME` and `/api/NAME`, which each
//! plugin has.
//!
//! A path belongs to one plugin. The plugin that runs with it keeps it; another plugin that claims
//! the same path is not loaded.

use std::collections::HashSet;

use percent_encoding::percent_decode_str;

use crate::invalid_value::InvalidValue;

/// The `routes` of a manifest.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Routes(Vec<Route>);

/// One path, all paths of one shape, or all paths with the same beginning.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Route {
    /// A single path, for example `/ws`.
    Exact(String),
    /// All paths of this shape: `/rooms/{room}`.
    Pattern(Vec<Segment>),
    /// All paths with this prefix: `/rooms/*` is stored as `/rooms/`.
    Prefix(String),
}

/// A part of a path between two slashes.
#[derive(Clone, Debug, Eq)]
enum Segment {
    /// The part as it is.
    Literal(String),
    /// Any part that is not empty: a parameter with this name.
    Parameter(String),
}

/// The name of a parameter does not matter for whether two routes are for the same paths.
impl PartialEq for Segment {
    fn eq(&self, other: &Segment) -> bool {
        match (self, other) {
            (Segment::Literal(one), Segment::Literal(other)) => one == other,
            (Segment::Parameter(_), Segment::Parameter(_)) => true,
            _ => false,
        }
    }
}

impl Routes {
    /// Parses the routes of a manifest.
    ///
    /// # Errors
    ///
    /// A text is no valid path.
    pub(crate) fn parse(written: &[String]) -> Result<Routes, InvalidValue> {
        let parsed = written.iter().map(|text| Route::parse(text));
        Ok(Routes(parsed.collect::<Result<_, _>>()?))
    }

    /// The routes as they stand in a manifest.
    pub(crate) fn written(&self) -> Vec<String> {
        self.0.iter().map(Route::to_string).collect()
    }

    /// Whether one of the routes is exactly this path.
    pub(crate) fn has_exact(&self, path: &str) -> bool {
        let is_path = |route: &Route| matches!(route, Route::Exact(exact) if exact == path);
        self.0.iter().any(is_path)
    }

    /// How closely the closest route fits that covers the path by its beginning, if one does: twice the
    /// bytes of what is written out, and one more for a route with parameters.
    pub(crate) fn longest_prefix(&self, path: &str) -> Option<usize> {
        let covers = |route: &Route| match route {
            Route::Prefix(prefix) if path.starts_with(prefix) => Some(2 * prefix.len()),
            Route::Pattern(segments) if parameters(segments, path).is_some() => {
                Some(2 * literal_bytes(segments) + 1)
            }
            Route::Prefix(_) | Route::Exact(_) | Route::Pattern(_) => None,
        };
        self.0.iter().filter_map(covers).max()
    }

    /// The parameters in a path, by the route that covers it: `room` is `tea` in `/rooms/tea`. They are
    /// percent-decoded.
    pub(crate) fn parameters(&self, path: &str) -> Vec<(String, String)> {
        let covering = self.0.iter().filter_map(|route| match route {
            Route::Pattern(segments) => {
                Some((literal_bytes(segments), parameters(segments, path)?))
            }
            Route::Exact(_) | Route::Prefix(_) => None,
        });
        let longest = covering.max_by_key(|(bytes, _)| *bytes);
        longest.map(|(_, found)| found).unwrap_or_default()
    }

    /// The first of these routes that already belongs to the plugin `owner`, whose routes are
    /// `its`.
    pub(crate) fn taken_by(&self, owner: &str, its: &Routes) -> Option<String> {
        let has = |route: &&Route| its.0.contains(route) || route.is_of_name(owner);
        self.0.iter().find(has).map(Route::to_string)
    }

    /// The first of these routes that is `/NAME` or `/api/NAME` for the plugin `name`.
    pub(crate) fn of_name(&self, name: &str) -> Option<String> {
        let of_name = |route: &&Route| route.is_of_name(name);
        self.0.iter().find(of_name).map(Route::to_string)
    }
}

/// The bytes of a pattern before its first parameter.
fn literal_bytes(segments: &[Segment]) -> usize {
    let literal = segments.iter().map_while(|segment| match segment {
        Segment::Literal(text) => Some(text.len() + 1),
        Segment::Parameter(_) => None,
    });
    literal.sum::<usize>() + 1
}

/// The parameters of a path, if the path has this shape.
fn parameters(segments: &[Segment], path: &str) -> Option<Vec<(String, String)>> {
    // As for an exact path, a slash at the end makes no difference.
    let path = path.strip_suffix('/').unwrap_or(path);
    let mut parts = path.strip_prefix('/')?.split('/');
    let mut found = Vec::new();
    for segment in segments {
        match (segment, parts.next()?) {
            (Segment::Literal(text), part) if text == part => {}
            (Segment::Parameter(name), part) if !part.is_empty() => {
                let decoded = percent_decode_str(part).decode_utf8().ok()?;
                found.push((name.clone(), decoded.into_owned()));
            }
            _ => return None,
        }
    }
    parts.next().is_none().then_some(found)
}

impl Segment {
    /// Reads a part of a route; `None` means that it is none.
    fn parse(text: &str) -> Option<Segment> {
        let Some(name) = text.strip_prefix('{') else {
            let is_literal = !text.is_empty() && !text.contains(['{', '}']);
            return is_literal.then(|| Segment::Literal(text.to_owned()));
        };
        let name = name.strip_suffix('}')?;
        let fits =
            |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"_-".contains(&byte);
        let is_name = !name.is_empty() && name.bytes().all(fits);
        is_name.then(|| Segment::Parameter(name.to_owned()))
    }
}

impl Route {
    fn parse(text: &str) -> Result<Route, InvalidValue> {
        if text.contains(['{', '}']) {
            return Route::parse_pattern(text);
        }
        let (path, is_prefix) = match text.strip_suffix('*') {
            Some(prefix) => (prefix, true),
            None => (text, false),
        };
        let fits = |byte: u8| byte.is_ascii_graphic() && !b"?#*".contains(&byte);
        let ends_well = is_prefix == path.ends_with('/') || path == "/";
        if !path.starts_with('/') || !path.bytes().all(fits) || !ends_well {
            let why = format!(
                "{text:?} is no path: write \"/ws\", or \"/rooms/*\" for all that begin with \
                 /rooms/; what is not ASCII as requests have it, \"/caf%C3%A9\""
            );
            return Err(InvalidValue::new("routes", why));
        }
        Ok(match is_prefix {
            true => Route::Prefix(path.to_owned()),
            false => Route::Exact(path.to_owned()),
        })
    }

    fn parse_pattern(text: &str) -> Result<Route, InvalidValue> {
        let fits = |byte: u8| byte.is_ascii_graphic() && !b"?#*".contains(&byte);
        let parts = text.strip_prefix('/').filter(|rest| rest.bytes().all(fits));
        let segments = parts.map(|rest| rest.split('/').map(Segment::parse));
        let segments = segments.and_then(|parts| parts.collect::<Option<Vec<_>>>());
        let wrong = |why: &str| Err(InvalidValue::new("routes", format!("{text:?} {why}")));
        let Some(segments) = segments else {
            return wrong(
                "is no path with parameters: write \"/rooms/{room}\", where a name has a-z, 0-9, _ and -",
            );
        };
        let mut names = HashSet::new();
        let is_new = |segment: &Segment| match segment {
            Segment::Parameter(name) => names.insert(name.clone()),
            Segment::Literal(_) => true,
        };
        match segments.iter().all(is_new) {
            true => Ok(Route::Pattern(segments)),
            false => wrong("has two parameters of one name: give them different names"),
        }
    }

    fn is_of_name(&self, name: &str) -> bool {
        match self {
            Route::Exact(path) => name_in(path) == Some(name),
            Route::Prefix(_) | Route::Pattern(_) => false,
        }
    }
}

impl std::fmt::Display for Route {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Route::Exact(path) => f.write_str(path),
            Route::Prefix(prefix) => write!(f, "{prefix}*"),
            Route::Pattern(segments) => segments.iter().try_for_each(|segment| match segment {
                Segment::Literal(text) => write!(f, "/{text}"),
                Segment::Parameter(name) => write!(f, "/{{{name}}}"),
            }),
        }
    }
}

/// The name of the plugin in a path: `/chat` and `/api/chat` name `chat`, and `/api` names `api`.
pub(crate) fn name_in(path: &str) -> Option<&str> {
    let name = path.strip_prefix("/api/").or(path.strip_prefix('/'))?;
    (!name.is_empty() && !name.contains('/')).then_some(name)
}

/// Whether `name` can stand in the path of a URL, so that clients can reach the plugin.
pub(crate) fn fits_a_path(name: &str) -> bool {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    name.bytes().all(fits)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_that_fit_a_path_are_plugins() {
        assert!(fits_a_path("chat-2_b"));
        for name in ["a b", "a.b", "é", "a/b", "a\u{fffd}"] {
            assert!(!fits_a_path(name), "{name}");
        }
    }

    fn routes(written: &[&str]) -> Result<Routes, InvalidValue> {
        let written: Vec<_> = written.iter().map(|text| (*text).to_owned()).collect();
        Routes::parse(&written)
    }

    #[test]
    fn exact_and_prefix() {
        let routes = routes(&["/ws", "/rooms/*", "/rooms/tea/*", "/"]).expect("good routes");
        assert!(routes.has_exact("/ws") && routes.has_exact("/"));
        assert!(!routes.has_exact("/rooms") && !routes.has_exact("/rooms/"));
        assert_eq!(routes.longest_prefix("/rooms/a/b"), Some(14));
        assert_eq!(routes.longest_prefix("/rooms/tea/1"), Some(22));
        assert_eq!(routes.longest_prefix("/rooms"), None);
        assert_eq!(routes.longest_prefix("/WS"), None);
    }

    #[test]
    fn parameters_are_parts_of_a_path() {
        let all = routes(&[
            "/rooms/{room}",
            "/rooms/{room}/seats/{seat}",
            "/rooms/*",
            "/rooms/tea",
        ])
        .expect("good routes");
        let found = |path: &str| {
            let found = all.parameters(path).into_iter();
            found
                .map(|(name, value)| format!("{name}={value}"))
                .collect::<Vec<_>>()
                .join(" ")
        };
        assert_eq!(found("/rooms/caf%C3%A9"), "room=café");
        assert_eq!(found("/rooms/a/seats/7"), "room=a seat=7");
        assert_eq!(found("/rooms/a/"), "room=a");
        for path in [
            "/rooms/",
            "/rooms",
            "/rooms/a//",
            "/rooms/a/seats",
            "/rooms/%ff",
            "/ROOMS/a",
        ] {
            assert_eq!(found(path), "", "{path}");
        }
        // What is written out comes first, then what has parameters, and then what is longer.
        assert!(all.has_exact("/rooms/tea") && !all.has_exact("/rooms/a"));
        assert!(all.longest_prefix("/rooms/a") > all.longest_prefix("/rooms/a/b"));
        assert_eq!(all.written()[1], "/rooms/{room}/seats/{seat}");
        // Whatever its parameters are called, a route is for the same paths.
        let other = routes(&["/rooms/{id}"]).expect("a good route");
        assert_eq!(other.taken_by("b", &all).as_deref(), Some("/rooms/{id}"));
    }

    #[test]
    fn what_is_no_path_is_named() {
        for text in [
            "", "ws", "/a*", "/a/", "/*/b", "/a?b", "/a b", "*", "/a#b", "/é", "/{}", "/{A}",
            "/{a", "/a}", "/x{a}", "/{a}/", "/{a}*", "/{a}/{a}", "{a}",
        ] {
            let error = routes(&[text]).expect_err(text).to_string();
            assert!(
                error.contains("routes") && error.contains(&format!("{text:?}")),
                "{error}"
            );
        }
    }

    #[test]
    fn a_path_is_one_plugins() {
        let mine = routes(&["/ws", "/rooms/*"]).expect("good routes");
        let none = Routes::default();
        for (its, name, taken) in [
            (&["/ws"][..], "b", Some("/ws")),
            (&["/rooms/*"], "b", Some("/rooms/*")),
            (&["/rooms", "/rooms/tea/*", "/*"], "b", None),
            (&[], "ws", Some("/ws")),
            (&[], "rooms", None),
        ] {
            let its = routes(its).expect("good routes");
            assert_eq!(
                mine.taken_by(name, &its).as_deref(),
                taken,
                "{its:?} {name}"
            );
        }
        assert_eq!(none.taken_by("ws", &mine), None);
        assert_eq!(mine.of_name("ws").as_deref(), Some("/ws"));
        let of_api = routes(&["/api/chat"]).expect("good routes");
        assert_eq!(of_api.of_name("chat").as_deref(), Some("/api/chat"));
    }

    #[test]
    fn names_in_paths() {
        for (path, name) in [
            ("/chat", Some("chat")),
            ("/api/chat", Some("chat")),
            ("/api", Some("api")),
            ("/api/", None),
            ("/api/a/b", None),
            ("/a/b", None),
            ("/", None),
            ("", None),
        ] {
            assert_eq!(name_in(path), name, "{path}");
        }
    }
}
