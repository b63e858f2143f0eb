//! Routes: the paths of a plugin's clients, in addition to `/NAME` and `/api/NAME`, which each
//! plugin has.
//!
//! A path belongs to one plugin. The plugin that runs with it keeps it; another plugin that claims
//! the same path is not loaded.

use crate::invalid_value::InvalidValue;

/// The `routes` of a manifest.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Routes(Vec<Route>);

/// One path, or all paths with the same beginning.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Route {
    /// A single path, for example `/ws`.
    Exact(String),
    /// All paths with this prefix: `/rooms/*` is stored as `/rooms/`.
    Prefix(String),
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

    /// The length of the longest route prefix that covers the path, in bytes, if one covers it.
    pub(crate) fn longest_prefix(&self, path: &str) -> Option<usize> {
        let covers = |route: &Route| match route {
            Route::Prefix(prefix) if path.starts_with(prefix) => Some(prefix.len()),
            Route::Prefix(_) | Route::Exact(_) => None,
        };
        self.0.iter().filter_map(covers).max()
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

impl Route {
    fn parse(text: &str) -> Result<Route, InvalidValue> {
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

    fn is_of_name(&self, name: &str) -> bool {
        match self {
            Route::Exact(path) => name_in(path) == Some(name),
            Route::Prefix(_) => false,
        }
    }
}

impl std::fmt::Display for Route {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Route::Exact(path) => f.write_str(path),
            Route::Prefix(prefix) => write!(f, "{prefix}*"),
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
        assert_eq!(routes.longest_prefix("/rooms/a/b"), Some(7));
        assert_eq!(routes.longest_prefix("/rooms/tea/1"), Some(11));
        assert_eq!(routes.longest_prefix("/rooms"), None);
        assert_eq!(routes.longest_prefix("/WS"), None);
    }

    #[test]
    fn what_is_no_path_is_named() {
        for text in [
            "", "ws", "/a*", "/a/", "/*/b", "/a?b", "/a b", "*", "/a#b", "/é",
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
