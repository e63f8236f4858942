//! Queries of requests (the part of the path behind `?`). A member that the operation does not take is refused, like an
//! unknown key of a configuration: whoever misspells `dry_run` must not find the change made.

use std::convert::Infallible;

use axum::extract::{FromRequestParts, Request};
use axum::http::Response;
use axum::http::request::Parts;
use axum::middleware::{self, Next};
use axum::response::IntoResponse;
use axum::routing::MethodRouter;
use vmlan_api::{Error, ErrorCode};
use vmlan_ports::shown;

use super::failure::Failure;
use crate::config::suggestion;

/// The members of a query that was checked.
pub(super) struct Query {
    members: Vec<(String, String)>,
}

/// Routes `methods`, which take the members `known` in their query and no others.
pub(super) fn takes<S: Clone + Send + Sync + 'static>(
    known: &'static [&'static str],
    methods: MethodRouter<S>,
) -> MethodRouter<S> {
    methods.route_layer(middleware::from_fn(async |request: Request, next: Next| -> Response<_> {
        match Query::of(request.uri().query()).check(known) {
            Ok(()) => next.run(request).await,
            Err(error) => Failure::from(error).into_response(),
        }
    }))
}

impl<S: Sync> FromRequestParts<S> for Query {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Query, Infallible> {
        Ok(Query::of(parts.uri.query()))
    }
}

impl Query {
    fn of(text: Option<&str>) -> Query {
        let members = form_urlencoded::parse(text.unwrap_or_default().as_bytes());
        Query { members: members.into_owned().collect() }
    }

    fn check(&self, known: &[&str]) -> Result<(), Error> {
        for (number, (name, _)) in self.members.iter().enumerate() {
            let refuse = |message| Err(Error::at(ErrorCode::BadRequest, shown(name), message));
            if known.is_empty() {
                return refuse(format!("the request takes no query, and so no `{}`", shown(name)));
            }
            if !known.contains(&name.as_str()) {
                let hint = suggestion(name, known);
                return refuse(format!("the query has an unknown member `{}`{hint}", shown(name)));
            }
            if self.members[..number].iter().any(|(other, _)| other == name) {
                return refuse(format!("`{name}` stands in the query twice; write it once"));
            }
        }
        Ok(())
    }

    /// The text of a member, if it is there.
    pub(super) fn text(&self, name: &str) -> Option<String> {
        self.members.iter().find(|(member, _)| member == name).map(|(_, value)| value.clone())
    }

    /// True if the member is there and says so.
    pub(super) fn flag(&self, name: &str) -> Result<bool, Failure> {
        match self.text(name).as_deref() {
            None | Some("false") => Ok(false),
            Some("true") => Ok(true),
            Some(_) => {
                let message = format!("{name} must be true or false");
                Err(Error::at(ErrorCode::BadRequest, name, message).into())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_are_known_and_stand_once() {
        for (query, known, complaint) in [
            ("dryrun=true", &["dry_run"][..], "did you mean `dry_run`?"),
            ("dry_run=true&dry_run=false", &["dry_run"], "twice"),
            ("x=1", &[], "takes no query"),
            ("%1b[2J=1", &["network"], "\\u{1b}[2J"),
        ] {
            let error = Query::of(Some(query)).check(known).expect_err(query);
            assert_eq!(error.code, ErrorCode::BadRequest);
            assert!(error.message.contains(complaint), "{query}: {error}");
        }
        for (query, known) in [(None, &[][..]), (Some(""), &[]), (Some("network=a%20b"), &["network"])] {
            assert_eq!(Query::of(query).check(known), Ok(()), "{query:?}");
        }
        assert_eq!(Query::of(Some("network=a%2Fb")).text("network").as_deref(), Some("a/b"));
    }
}
