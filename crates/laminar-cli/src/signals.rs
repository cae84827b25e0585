//! SIGINT and SIGTERM: the first asks to stop in good order, the second ends the process at once.

use tokio::signal::unix::{SignalKind, signal};

/// Status of a process ended by SIGINT, as shells count.
const INTERRUPTED: i32 = 130;

/// Resolves at the first signal; from then on another one exits at once.
pub async fn asked_to_stop() {
    if one().await.is_err() {
        // Without signal handling the default action ends the process; there is nothing to wait for.
        std::future::pending::<()>().await;
    }
    tokio::spawn(async {
        if one().await.is_ok() {
            eprintln!("laminar: stopped at once; what came after the last checkpoint is read again at the next start");
            std::process::exit(INTERRUPTED);
        }
    });
}

async fn one() -> std::io::Result<()> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
    Ok(())
}
