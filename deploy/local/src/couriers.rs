//! Couriers that leave new transfers alone, so that a test finds a transfer between two of its steps for as long as it likes.

use crate::{LocalCluster, LocalError};

/// New rows only: the mover's copies have such a time already, and must stay as they are.
const HOLD: &str = "
    CREATE FUNCTION nobody_carries_it() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        NEW.next_try_at := clock_timestamp() + interval '1 day';
        RETURN NEW;
    END
    $$;
    CREATE TRIGGER nobody_carries_it BEFORE INSERT ON transfers
        FOR EACH ROW WHEN (NEW.next_try_at < now() + interval '1 hour') EXECUTE FUNCTION nobody_carries_it()";

/// Rows that a slot left behind stay as they are.
const SEND: &str = "
    UPDATE transfers SET next_try_at = clock_timestamp()
    WHERE ended_at IS NULL AND slot IN (SELECT slot FROM slot_owner WHERE state = 'owned')";

impl LocalCluster {
    /// From here on no courier takes up a new transfer before [`LocalCluster::send_couriers`].
    ///
    /// # Errors
    /// When a primary does not answer, or it was done before.
    pub async fn hold_couriers(&self) -> Result<(), LocalError> {
        self.on_each_primary(HOLD).await
    }

    /// Every transfer that is pending now is due. Later ones are held as before.
    ///
    /// # Errors
    /// When a primary does not answer.
    pub async fn send_couriers(&self) -> Result<(), LocalError> {
        self.on_each_primary(SEND).await
    }

    async fn on_each_primary(&self, sql: &str) -> Result<(), LocalError> {
        for shard in self.shards() {
            let doing = format!("change when couriers of {} come", shard.name());
            let database = shard.connect_as_superuser().await?;
            database.batch_execute(sql).await.map_err(LocalError::postgres(doing))?;
        }
        Ok(())
    }
}
