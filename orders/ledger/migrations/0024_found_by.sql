-- What a search for products compares: title and SKU without the difference of case and width, which
-- no database says the same of in every locale. Null in rows of the release before.
alter table products add column found_by text;
