//! The addresses of a service's paths.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::{PoisonError, RwLock};

use bytes::Bytes;
use http::Uri;

use crate::{ApiRequest, BaseUrl, HttpError, HttpErrorKind};

/// The addresses under one base URL. A path that is part of the program is joined and parsed once; others, which hold
/// ids, each time.
#[derive(Debug, Default)]
pub(crate) struct Addresses(RwLock<HashMap<&'static str, Uri>>);

impl Addresses {
    /// The address of a request. A path that makes no URI is the caller's mistake and is found before anything is sent.
    pub(crate) fn of(&self, base_url: &BaseUrl, request: &ApiRequest) -> Result<Uri, HttpError> {
        let Cow::Borrowed(path) = request.path else { return parse(base_url, request) };
        if let Some(uri) = self.0.read().unwrap_or_else(PoisonError::into_inner).get(path) {
            return Ok(uri.clone());
        }
        let uri = parse(base_url, request)?;
        self.0.write().unwrap_or_else(PoisonError::into_inner).insert(path, uri.clone());
        Ok(uri)
    }
}

fn parse(base_url: &BaseUrl, request: &ApiRequest) -> Result<Uri, HttpError> {
    Uri::from_maybe_shared(Bytes::from(base_url.join(&request.path))).map_err(|e| {
        let text = format!("the path is unusable: {e}");
        HttpError::new(HttpErrorKind::InvalidRequest, request.operation, text).with_source(e)
    })
}
