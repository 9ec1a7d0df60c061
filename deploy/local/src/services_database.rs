//! What the services call their database and their role in every server.

pub(crate) const DATABASE: &str = "picopay";

/// The role that the services use. It owns the database and is no superuser.
pub(crate) const ROLE: &str = "picopay";
