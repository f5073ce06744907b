//! What a leader changes is refused once another leads, in the transaction that changes it: also what it began before it stood still.
//!
//! Three things any controller may write: a halt, since a stop is never refused; the audit log, whose entries are in one chain; and that
//! somebody has logged in, who may read at any.

use super::writer::leads;
use super::{Store, Trouble};
use sqlx::any::{AnyArguments, AnyQueryResult};
use sqlx::query::Query;
use sqlx::{Any, Transaction};

/// A statement that changes something.
pub(super) trait Change {
    /// Does it as the leader as whom the store writes, if as one; all of it, or nothing where another leads by now.
    async fn change(self, store: &Store) -> Result<AnyQueryResult, sqlx::Error>;
}

impl Change for Query<'_, Any, AnyArguments> {
    async fn change(self, store: &Store) -> Result<AnyQueryResult, sqlx::Error> {
        if store.term().is_none() {
            return self.execute(&store.pool).await;
        }
        let mut transaction = store.pool.begin().await?;
        let done = self.execute(&mut *transaction).await?;
        commit(transaction, store).await?;
        Ok(done)
    }
}

/// The same for several statements, which have been done in this transaction: it is over with this.
pub(super) async fn commit(
    mut transaction: Transaction<'_, Any>,
    store: &Store,
) -> Result<(), sqlx::Error> {
    if let Some(term) = store.term()
        && !leads(&mut transaction, store.dialect, term).await?
    {
        return Err(superseded());
    }
    transaction.commit().await
}

/// Another leads; see [`super::StoreError::is_superseded`].
pub(super) fn superseded() -> sqlx::Error {
    sqlx::Error::AnyDriverError(Box::new(Trouble::Superseded))
}
