//! Which SQLite is built in, and which one it must be at least.

use std::fmt;

use sqlx::{Connection, SqliteConnection};

use crate::store::StoreError;

/// The first without the WAL-reset bug, by which two processes that write at once could damage a database
/// (sqlite.org/wal.html#walresetbug). The fixes of older lines, 3.50.7 and 3.44.6, are not worth a longer rule.
pub const MIN_VERSION: Version = Version([3, 51, 3]);

/// Three numbers, compared one after the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version(pub [u32; 3]);

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [major, minor, patch] = self.0;
        write!(f, "{major}.{minor}.{patch}")
    }
}

/// Asks SQLite for its version, without a database.
pub async fn version() -> Result<Version, StoreError> {
    let mut memory = SqliteConnection::connect("sqlite::memory:").await?;
    let text: String = sqlx::query_scalar("SELECT sqlite_version()").fetch_one(&mut memory).await?;
    let mut numbers = text.split('.').map(|number| number.parse().unwrap_or(0));
    Ok(Version([(); 3].map(|()| numbers.next().unwrap_or(0))))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::sample::wait;

    #[test]
    fn the_one_that_is_built_in_has_no_known_fault_in_its_log() {
        let version = wait(version()).unwrap();
        assert!(version >= MIN_VERSION, "{version}");
        assert!(Version([3, 51, 2]) < MIN_VERSION && Version([3, 100, 0]) > MIN_VERSION);
    }
}
