//! The page at `/docs`, which shows the API's description and can call its functions. The page is
//! Swagger UI (`docs/README.md`).

use std::sync::LazyLock;

use axum::Router;

use super::embedded::{self, CSS, EmbeddedFile, HTML, SCRIPT};

static FILES: LazyLock<[EmbeddedFile; 5]> = LazyLock::new(|| {
    [
        EmbeddedFile::new("/docs", HTML, include_bytes!("docs/index.html")),
        EmbeddedFile::new("/docs/page.css", CSS, include_bytes!("docs/page.css")),
        EmbeddedFile::new("/docs/start.js", SCRIPT, include_bytes!("docs/start.js")),
        EmbeddedFile::new(
            "/docs/swagger-ui.css",
            CSS,
            include_bytes!("docs/swagger-ui.css.gz"),
        ),
        EmbeddedFile::new(
            "/docs/swagger-ui-bundle.js",
            SCRIPT,
            include_bytes!("docs/swagger-ui-bundle.js.gz"),
        ),
    ]
});

/// The routes of the page at `/docs`.
pub(super) fn routes<S: Clone + Send + Sync + 'static>() -> Router<S> {
    embedded::routes(&*FILES)
}
