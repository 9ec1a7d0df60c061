//! No table of users is forgotten, and no column of one.

use std::collections::BTreeSet;

use picopay_local::{ClusterSpec, LocalCluster};
use picopay_mover::user_tables::USER_TABLES;

async fn names(database: &tokio_postgres::Client, sql: &str) -> BTreeSet<String> {
    database.query(sql, &[]).await.unwrap().iter().map(|row| row.get(0)).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_with_a_slot_and_a_user_is_moved_counted_and_purged_with_all_its_columns() {
    let cluster = LocalCluster::start(ClusterSpec::one_shard().without_gateway()).await.unwrap();
    let database = cluster.connect_primary(0).await.unwrap();
    let of_users = "SELECT s.table_name::text FROM information_schema.columns s
                    JOIN information_schema.columns u USING (table_schema, table_name)
                    JOIN information_schema.tables t USING (table_schema, table_name)
                    WHERE s.column_name = 'slot' AND u.column_name = 'user_id' AND t.table_type = 'BASE TABLE'";
    let there = names(&database, of_users).await;
    let counted =
        "SELECT table_name::text FROM information_schema.view_table_usage WHERE view_name = 'rows_of_users'";
    assert_eq!(names(&database, counted).await, there, "the view `rows_of_users`");
    let moved: BTreeSet<String> = USER_TABLES.iter().map(|table| table.name.to_owned()).collect();
    assert_eq!(moved, there, "the mover's list");
    for table in USER_TABLES {
        let list = table.copy_in.split_once('(').unwrap().1.split_once(')').unwrap().0;
        let copied: BTreeSet<String> = list.split(',').map(|column| column.trim().to_owned()).collect();
        let columns = format!(
            "SELECT column_name::text FROM information_schema.columns WHERE table_name = '{}'",
            table.name
        );
        assert_eq!(copied, names(&database, &columns).await, "{}", table.name);
    }
    cluster.stop().await;
}
