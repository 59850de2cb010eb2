//! The page's files, as they were when the binary was built.

use axum::extract::Path;
use axum::http::{HeaderName, StatusCode, header};
use axum::response::{IntoResponse, Response};

use crate::api::ApiError;

/// The page may load and ask this server only, run no script but its own files, be framed by nobody,
/// and make no markup of text.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; \
                      connect-src 'self'; form-action 'self'; base-uri 'none'; \
                      frame-ancestors 'none'; require-trusted-types-for 'script'";

/// A table of the files of the page's folder.
macro_rules! assets {
    ($($path:literal)*) => {
        &[$(($path, include_bytes!(concat!("../../playground/", $path)).as_slice())),*]
    };
}

/// Every file with its path below the page's folder.
const ASSETS: &[(&str, &[u8])] = assets! {
    "icon.svg"
    "index.html"
    "js/answer.js"
    "js/api.js"
    "js/blind.js"
    "js/chat.js"
    "js/compare.js"
    "js/composer.js"
    "js/constitution.js"
    "js/critique.js"
    "js/diff.js"
    "js/dom.js"
    "js/key.js"
    "js/main.js"
    "js/report.js"
    "js/risk.js"
    "js/settings.js"
    "js/sse.js"
    "js/tally.js"
    "js/timeline.js"
    "js/trouble.js"
    "style.css"
};

/// Handles `GET /`.
pub(super) async fn page() -> Response {
    file("index.html")
}

/// Handles `GET /playground/PATH`.
pub(super) async fn asset(Path(path): Path<String>) -> Response {
    file(&path)
}

fn file(path: &str) -> Response {
    let found = ASSETS.iter().find(|(name, _)| *name == path);
    let (Some((_, bytes)), Some(kind)) = (found, kind(path)) else {
        let message = "there is nothing at this address";
        return ApiError::with_status(StatusCode::NOT_FOUND, message).into_response();
    };
    let headers = [
        (header::CONTENT_TYPE, kind),
        (header::CACHE_CONTROL, "no-cache"),
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (HeaderName::from_static("referrer-policy"), "no-referrer"),
    ];
    (headers, *bytes).into_response()
}

fn kind(path: &str) -> Option<&'static str> {
    match path.rsplit_once('.')?.1 {
        "html" => Some("text/html; charset=utf-8"),
        "css" => Some("text/css; charset=utf-8"),
        "js" => Some("text/javascript; charset=utf-8"),
        "svg" => Some("image/svg+xml"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;
    use std::fs;

    #[test]
    fn every_file_of_the_page_is_in_the_binary_and_has_a_type() {
        let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("playground");
        let mut on_disk = BTreeSet::new();
        for below in ["", "js/"] {
            for entry in fs::read_dir(folder.join(below)).unwrap() {
                let entry = entry.unwrap();
                if entry.file_type().unwrap().is_file() {
                    on_disk.insert(format!("{below}{}", entry.file_name().to_str().unwrap()));
                }
            }
        }
        let embedded: BTreeSet<String> = ASSETS.iter().map(|(path, _)| (*path).into()).collect();
        assert_eq!(embedded, on_disk);
        assert!(embedded.iter().all(|path| kind(path).is_some()));
    }

    #[test]
    fn no_file_makes_markup_of_text_or_loads_from_elsewhere() {
        for (path, bytes) in ASSETS {
            let text = std::str::from_utf8(bytes).unwrap();
            for forbidden in
                ["innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "https://"]
            {
                assert!(!text.contains(forbidden), "{path}: {forbidden}");
            }
            assert!(!text.contains(" style=") && !text.contains("onclick=\""), "{path}");
        }
    }
}
