//! What an attempt is at, so that one that is given up says where it hung.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use tokio::time::{Instant, timeout_at};

tokio::task_local! {
    static SHAKES_HANDS: Arc<AtomicBool>;
}

/// Given up at its time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Late {
    /// In a TLS handshake: a server that does not speak TLS may wait for ever for the end of a line of its own protocol.
    pub(super) shakes_hands: bool,
}

/// Does `attempt`, and gives it up when it is `late`.
///
/// # Errors
/// Where it was then.
pub(super) async fn until<T>(late: Instant, attempt: impl Future<Output = T>) -> Result<T, Late> {
    let stage = Arc::new(AtomicBool::new(false));
    let done = timeout_at(late, SHAKES_HANDS.scope(Arc::clone(&stage), attempt)).await;
    done.map_err(|_| Late {
        shakes_hands: stage.load(Ordering::Relaxed),
    })
}

/// Does a TLS handshake, as a part of what [`until`] does.
pub(super) async fn handshake<T>(work: impl Future<Output = T>) -> T {
    let at_it = |now| {
        // Outside an attempt nobody asks.
        let _nobody = SHAKES_HANDS.try_with(|stage| stage.store(now, Ordering::Relaxed));
    };
    at_it(true);
    let done = work.await;
    at_it(false);
    done
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::{pending, ready};
    use std::time::Duration;

    fn soon() -> Instant {
        Instant::now() + Duration::from_millis(10)
    }

    #[tokio::test]
    async fn where_it_hung() {
        let hung = until(soon(), handshake(pending::<()>())).await;
        assert_eq!(hung, Err(Late { shakes_hands: true }));
        let later = async {
            handshake(ready(())).await;
            pending::<()>().await;
        };
        let through = until(soon(), later).await;
        assert_eq!(
            through,
            Err(Late {
                shakes_hands: false
            })
        );
        assert_eq!(until(soon(), handshake(ready(7))).await, Ok(7));
        assert_eq!(handshake(ready(7)).await, 7);
    }
}
