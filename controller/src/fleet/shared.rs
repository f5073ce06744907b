//! One authority for several controllers: it lies in the database that they share.

use super::authority::{Authority, AuthorityError};
use crate::store::{Store, StoreError};
use std::path::Path;

/// Why there is none.
#[derive(Debug, thiserror::Error)]
pub enum SharedError {
    /// Its files or what is in them.
    #[error(transparent)]
    Authority(#[from] AuthorityError),
    /// The database.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// The authority of all controllers of this database. The first brings it: the one of its data directory, where a controller was before
/// it moved to this database, or a new one. Its certificate is written there, for commands on the same machine.
///
/// # Errors
/// The database or the directory cannot be used, or what is in them is none.
pub async fn authority(store: &Store, directory: &Path) -> Result<Authority, SharedError> {
    let kept = match store.authority().await? {
        Some(kept) => kept,
        None => {
            let (certificate, key) = match Authority::read(directory)? {
                Some(own) => own,
                None => Authority::draft()?,
            };
            store.keep_authority(&certificate, &key).await?;
            // Another controller may have been first.
            store.authority().await?.unwrap_or((certificate, key))
        }
    };
    let authority = Authority::from_pem(kept.0, &kept.1)?;
    authority.publish(directory)?;
    Ok(authority)
}
