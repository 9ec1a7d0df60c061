SELECT slot, user_id, id, tries
FROM picopay_lease_transfers_v1($1::bigint, $2::integer, $3::text::interval, $4::smallint[], $5::smallint[])
