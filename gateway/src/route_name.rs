//! The routes by their templates: for metrics and access lines, which must not contain what a client wrote in a path.

/// Every route, as `routes.rs` has it; first the name of all other paths.
pub const ROUTE_NAMES: [&str; 24] = [
    "other",
    "/charge",
    "/users/{user_id}/balance",
    "/transactions",
    "/topup",
    "/batch",
    "/refund",
    "/holds",
    "/holds/{id}",
    "/holds/{id}/capture",
    "/holds/{id}/void",
    "/transfers",
    "/transfers/{id}",
    "/sums",
    "/totals",
    "/users",
    "/transactions/{id}",
    "/health",
    "/readyz",
    "/metrics",
    "/openapi.json",
    "/docs",
    "/docs/{file}",
    "/problems/{suffix}",
];

/// A route's place in [`ROUTE_NAMES`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RouteName(usize);

impl RouteName {
    /// The route of a path, with or without `/v1` before it.
    pub fn of(path: &str) -> Self {
        let path = path.strip_prefix("/v1").filter(|rest| rest.starts_with('/')).unwrap_or(path);
        Self(
            ROUTE_NAMES.iter().skip(1).position(|template| fits(template, path)).map_or(0, |place| place + 1),
        )
    }

    pub fn place(self) -> usize {
        self.0
    }

    pub fn as_str(self) -> &'static str {
        ROUTE_NAMES[self.0]
    }

    /// What a write on this route does.
    pub fn operation(self) -> Option<&'static str> {
        Some(match self.as_str() {
            "/users" => "create_user",
            "/topup" => "topup",
            "/charge" => "charge",
            "/refund" => "refund",
            "/holds" => "hold",
            "/holds/{id}/capture" => "capture",
            "/holds/{id}/void" => "void",
            "/transfers" => "transfer",
            "/batch" => "batch",
            _ => return None,
        })
    }
}

fn fits(template: &str, path: &str) -> bool {
    let (mut wanted, mut given) = (template.split('/'), path.split('/'));
    loop {
        match (wanted.next(), given.next()) {
            (None, None) => return true,
            (Some(wanted), Some(given)) if wanted == given => {}
            (Some(wanted), Some(given)) if wanted.starts_with('{') && !given.is_empty() => {}
            _ => return false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_named_by_its_route_and_by_nothing_that_a_client_wrote() {
        for (path, name) in [
            ("/charge", "/charge"),
            ("/v1/charge", "/charge"),
            ("/v1/users/7/balance", "/users/{user_id}/balance"),
            ("/holds/secret/capture", "/holds/{id}/capture"),
            ("/v1", "other"),
            ("/v1charge", "other"),
            ("/charge/", "other"),
            ("/holds//void", "other"),
            ("/secret", "other"),
            ("*", "other"),
            ("", "other"),
        ] {
            assert_eq!(RouteName::of(path).as_str(), name, "{path}");
        }
    }
}
