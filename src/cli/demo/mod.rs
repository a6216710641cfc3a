//! `confirmd demo`: all of confirmd on this machine alone, with a mailbox of its own and a page that shows what happens.

mod backend;
mod mailbox;
mod pages;
mod setup;
mod smtp;
mod trail;
mod web;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use clap::Args as ClapArgs;
use tokio::net::TcpListener;

use self::backend::Backend;
use self::mailbox::Mailbox;
use self::pages::Pages;
use self::setup::{Folder, Places};
use self::web::Demo;
use super::Exit;
use super::serve::{Listeners, Service};
use crate::clock::Clock;
use crate::flow::jump::accept;
use crate::http::listen;
use crate::lifecycle::{self, Ended, Stop, Tasks};
use crate::telemetry::logs;

/// How long the mailbox and the page may take to end after confirmd itself has.
const DRAIN: Duration = Duration::from_secs(2);
/// What the page grants its visitors.
const LIMITS: listen::Limits = listen::Limits {
    connections: 64,
    header_timeout: Duration::from_secs(30),
    request_timeout: Duration::from_secs(30),
    drain: DRAIN,
};

/// Where the demo is.
#[derive(Debug, ClapArgs)]
pub struct Args {
    /// The folder with its database, keys and mails; a second start goes on where the first was
    #[arg(long, default_value = "data/demo")]
    dir: PathBuf,
    /// Where its page listens; port 0 takes a free one
    #[arg(long, value_name = "ADDRESS:PORT", default_value = "127.0.0.1:8025")]
    listen: SocketAddr,
    /// Where confirmd itself listens; port 0 takes a free one
    #[arg(long, value_name = "ADDRESS:PORT", default_value = "127.0.0.1:8026")]
    http: SocketAddr,
}

/// Runs the command.
pub async fn run(args: Args) -> anyhow::Result<Exit> {
    let page = bind("--listen", args.listen).await?;
    let http = bind("--http", args.http).await?;
    let free = SocketAddr::new(args.listen.ip(), 0);
    let ops = bind("--listen", free).await?;
    let smtp = bind("--listen", free).await?;
    let places = Places {
        page: page.local_addr()?,
        http: http.local_addr()?,
        ops: ops.local_addr()?,
        smtp: smtp.local_addr()?,
    };
    let folder = Folder::open(&args.dir)?;
    let config = folder.config(places)?;
    logs::init(config.log.format, &config.log.filter)?;
    let stop = Stop::new();
    // SIGHUP means nothing here.
    let _reloads = lifecycle::signals(&stop)?;
    let opening = Service::open_on(&config, Clock::System, Listeners { http, ops });
    let Some(service) = stop.or_soft(opening).await else {
        return Ok(Exit::Done);
    };
    let service = service?;
    folder.keep_config()?;
    // It may have been left for long, and nobody runs it for the sake of its clock.
    accept(&service.flows.pool, Clock::System.now()).await?;
    let mailbox = Arc::new(Mailbox::open(&folder.mails()).context("the folder of mails")?);
    let origin = format!("http://{}", places.page);
    let demo = Demo {
        backend: Backend {
            confirmd: places.http,
            api_key: folder.api_key(&service.flows.pool).await?,
            origin: origin.clone(),
        },
        mailbox: mailbox.clone(),
        pool: service.flows.pool.clone(),
        pages: Pages::new()?,
        config: folder.config_file().display().to_string(),
    };

    // The mailbox takes mails until confirmd sends none any more; the page ends with confirmd's own.
    let around = Stop::new();
    let mut tasks = Tasks::new(&around);
    tasks.spawn("mailbox", smtp::serve(smtp, mailbox, around.soft()));
    tasks.spawn("page", {
        let (stop, around) = (stop.clone(), around.clone());
        async move {
            let (soft, hard) = (stop.soft(), stop.hard());
            listen::serve(page, web::router(demo), LIMITS, soft, hard).await?;
            if stop.is_soft() {
                around.soft().await;
            }
            std::io::Result::Ok(())
        }
    });
    let around_ended = tokio::spawn(tasks.run(DRAIN));
    tokio::spawn({
        let (stop, around) = (stop.clone(), around.clone());
        async move {
            around.soft().await;
            stop.trigger_soft();
        }
    });

    outln!("{origin}/");
    errln!(
        "This is confirmd with a mailbox of its own: sign up, open the mail, press the button, see the trail."
    );
    errln!(
        "Open the address above in a browser. Ctrl-C stops it; {} keeps everything.",
        args.dir.display()
    );
    let ended = service.run(&stop).await;
    around.trigger_soft();
    Ok(match (ended, around_ended.await?) {
        (Ended::Failed, _) | (_, Ended::Failed) => Exit::Broke,
        _ => Exit::Done,
    })
}

/// Listens on loopback: whoever reaches the demo may read its mails.
async fn bind(option: &str, address: SocketAddr) -> anyhow::Result<TcpListener> {
    if !address.ip().is_loopback() {
        bail!(
            "{option} {address}: the demo shows its mails to whoever reaches it; take an address like 127.0.0.1:0"
        );
    }
    let listener = TcpListener::bind(address).await;
    listener.with_context(|| {
        let free = SocketAddr::new(address.ip(), 0);
        format!(
            "cannot listen on {address}; choose another port, or any free one with {option} {free}"
        )
    })
}
