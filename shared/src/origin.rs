//! The client's request behind a command or a query. Log lines name it, so that it is found in the logs of
//! all processes.

use std::fmt;

use serde::{Deserialize, Serialize};

/// The client's request behind a command or a query.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Origin {
    /// The client's `X-Request-Id`, or one that the gateway made.
    pub request_id: String,
    /// The client's W3C trace context, passed on unchanged. Its maker has checked the form.
    pub traceparent: Option<String>,
}

impl Origin {
    /// The trace that the request belongs to: the second field of the context.
    pub fn trace_id(&self) -> Option<&str> {
        self.traceparent.as_deref()?.split('-').nth(1)
    }
}

/// For logs: the request's id and, after a slash, that of its trace.
impl fmt::Display for Origin {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.request_id)?;
        match self.trace_id() {
            Some(trace_id) => write!(formatter, "/{trace_id}"),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_origin_is_told_by_its_request_and_its_trace() {
        let trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        for (traceparent, told) in [
            (None, "mine"),
            (Some(trace.to_owned()), "mine/4bf92f3577b34da6a3ce929d0e0e4736"),
            // From a gateway that did not check it.
            (Some("odd".to_owned()), "mine"),
        ] {
            assert_eq!(Origin { request_id: "mine".into(), traceparent }.to_string(), told);
        }
    }
}
