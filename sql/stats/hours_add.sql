-- Eight times what hour_add takes.
INSERT INTO hours (hour, path_id, method, status_class, count, bytes, took_ms, took_max_ms)
VALUES
	($1, $2, $3, $4, $5, $6, $7, $8),
	($9, $10, $11, $12, $13, $14, $15, $16),
	($17, $18, $19, $20, $21, $22, $23, $24),
	($25, $26, $27, $28, $29, $30, $31, $32),
	($33, $34, $35, $36, $37, $38, $39, $40),
	($41, $42, $43, $44, $45, $46, $47, $48),
	($49, $50, $51, $52, $53, $54, $55, $56),
	($57, $58, $59, $60, $61, $62, $63, $64)
ON CONFLICT (hour, path_id, method, status_class) DO UPDATE SET
	count = count + excluded.count, bytes = bytes + excluded.bytes,
	took_ms = took_ms + excluded.took_ms, took_max_ms = max(took_max_ms, excluded.took_max_ms)
