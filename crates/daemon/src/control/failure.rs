//! Errors as responses.

use axum::body::Body;
use axum::http::{HeaderValue, Response, StatusCode, header};
use axum::response::IntoResponse;
use serde::Serialize;
use vmlan_api::{Error, ErrorCode};

/// An answer in JSON, or an error that becomes one.
pub(super) type Answer = Result<Json, Failure>;

/// A value as a response.
pub(super) struct Json(Vec<u8>);

/// An error as a response.
pub(super) struct Failure(pub(super) Error);

impl Failure {
    pub(super) fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        Self(Error::new(code, message))
    }

    /// All faults of a body as one error.
    pub(super) fn from_faults(faults: Vec<Error>) -> Self {
        Self(Error::from_faults(faults))
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self(error)
    }
}

impl Json {
    /// The value in JSON, with a newline at the end for terminals.
    pub(super) fn of(value: &impl Serialize) -> Answer {
        let mut text = serde_json::to_vec(value).map_err(|error| {
            Failure::new(ErrorCode::Internal, format!("the answer cannot be written: {error}"))
        })?;
        text.push(b'\n');
        Ok(Self(text))
    }
}

impl IntoResponse for Json {
    fn into_response(self) -> Response<Body> {
        let mut response = Response::new(Body::from(self.0));
        response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        response
    }
}

/// A whole response for a connection that is closed before it asked for anything.
pub(super) fn refusal(message: &str) -> Vec<u8> {
    let body = serde_json::to_vec(&Error::new(ErrorCode::Unavailable, message)).unwrap_or_default();
    let head = format!(
        "HTTP/1.1 503 Service Unavailable\r\nconnection: close\r\ncontent-type: application/json\r\n\
         content-length: {}\r\n\r\n",
        body.len()
    );
    [head.into_bytes(), body].concat()
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response<Body> {
        let mut response = match Json::of(&self.0) {
            Ok(json) => json.into_response(),
            Err(_) => Response::new(Body::empty()),
        };
        *response.status_mut() =
            StatusCode::from_u16(self.0.code.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        response
    }
}
