SELECT picopay_postpone_transfers_v1($1::bigint, $2::smallint[], $3::bigint[], $4::uuid[], $5::bigint[], $6::text[])
