//! The page of the node at `/`, for operators. It shows the cluster, plugins and clients, and does what
//! the token of its visitor allows, over the same API as everybody else.

use std::sync::{Arc, LazyLock};

use axum::extract::State;
use axum::routing::get;
use axum::{Json, Router};
use serde::Serialize;

use super::api::Api;
use super::embedded::{self, CSS, EmbeddedFile, HTML, SCRIPT};

static FILES: LazyLock<[EmbeddedFile; 3]> = LazyLock::new(|| {
    [
        EmbeddedFile::new("/", HTML, include_bytes!("page/index.html")),
        EmbeddedFile::new("/page.css", CSS, include_bytes!("page/page.css")),
        EmbeddedFile::new("/page.js", SCRIPT, include_bytes!("page/page.js")),
    ]
});

/// The routes of the page.
pub(super) fn routes() -> Router<Arc<Api>> {
    embedded::routes(&*FILES).route("/page.json", get(start))
}

/// What the page needs to know before it asks for anything.
#[derive(Serialize)]
struct PageStart {
    needs_token: bool,
}

async fn start(State(api): State<Arc<Api>>) -> Json<PageStart> {
    Json(PageStart {
        needs_token: !api.tokens.is_empty(),
    })
}
