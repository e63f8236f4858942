//! Rules about ports' frames.

use std::path::Path;
use std::sync::Arc;

use vmlan_api::ErrorCode;
use vmlan_bpf::ValidProgram;

use vmlan_ports::{FilterRule, FilterSource, join, misunderstood};

use super::Checker;
use crate::expression::{self, BadFilter};

/// Rules of a port at most.
const MOST: usize = 64;

impl Checker {
    pub(super) fn filters(
        &mut self,
        path: &str,
        filters: &[vmlan_api::FilterConfig],
    ) -> Option<Vec<FilterRule>> {
        if filters.len() > MOST {
            let message = format!("{} rules are too many; a port takes {MOST}", filters.len());
            return self.refuse(ErrorCode::OutOfRange, path, message);
        }
        let rules: Vec<_> = filters
            .iter()
            .enumerate()
            .map(|(index, filter)| self.filter(&format!("{path}[{index}]"), filter))
            .collect();
        rules.into_iter().collect()
    }

    fn filter(&mut self, path: &str, filter: &vmlan_api::FilterConfig) -> Option<FilterRule> {
        let given = match (&filter.expression, &filter.program) {
            (Some(text), None) => self.expression(&join(path, "expression"), text),
            (None, Some(file)) => self.filter_program(&join(path, "program"), file),
            (None, None) => self.refuse(
                ErrorCode::MissingKey,
                path,
                "add `expression`, as in \"udp port 67\", or `program` with a file",
            ),
            (Some(_), Some(_)) => self.refuse(
                ErrorCode::Conflict,
                path,
                "`expression` and `program` exclude each other; keep one",
            ),
        };
        let action = filter.action.or_else(|| {
            self.refuse(
                ErrorCode::MissingKey,
                path,
                "the key `action` is missing; write \"drop\" or \"pass\"",
            )
        });
        let (source, program) = given?;
        Some(FilterRule { direction: filter.direction.unwrap_or_default(), action: action?, source, program })
    }

    fn expression(&mut self, path: &str, text: &str) -> Option<(FilterSource, Arc<ValidProgram>)> {
        let program = self.good(path, expression::of_expression(text))?;
        Some((FilterSource::Expression(text.to_owned()), program))
    }

    fn filter_program(&mut self, path: &str, file: &str) -> Option<(FilterSource, Arc<ValidProgram>)> {
        if let Some(why) = misunderstood(file) {
            return self.refuse(ErrorCode::BadPath, path, why);
        }
        if !file.starts_with('/') {
            return self.refuse(ErrorCode::BadPath, path, "the path must be absolute here");
        }
        let program = self.good(path, expression::of_file(Path::new(file)))?;
        Some((FilterSource::Program(file.into()), Arc::new(program)))
    }

    fn good<T>(&mut self, path: &str, filter: Result<T, BadFilter>) -> Option<T> {
        filter.map_err(|error| self.fault(ErrorCode::BadFilter, path, error.to_string())).ok()
    }
}
