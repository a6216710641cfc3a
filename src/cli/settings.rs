//! What the parts of the service are told by the configuration.

use crate::background::deliver::route;
use crate::background::outlets;
use crate::config::{Config, MAIN, Smtp, Tls};
use crate::flow::Settings;
use crate::smtp;

/// Translates every relay, the main one first.
pub(super) fn relays(config: &Config) -> Vec<route::Settings> {
    let further = config
        .relays
        .iter()
        .map(|(name, from)| (name.as_str(), from));
    let all = std::iter::once((MAIN, &config.smtp)).chain(further);
    let settings = all.map(|(name, from)| route::Settings {
        name: name.to_owned(),
        smtp: relay(from),
        rate: from.rate,
    });
    settings.collect()
}

/// Says which relays take whose mails, in their order.
pub(super) fn routes(config: &Config) -> route::Order {
    let main = std::iter::once(MAIN.to_owned()).chain(config.smtp.fallback.iter().cloned());
    route::Order {
        usual: main.collect(),
        of_sender: config.routes.clone(),
    }
}

fn relay(from: &Smtp) -> smtp::Settings {
    let (at, times) = (&from.at, &from.timeouts);
    smtp::Settings {
        host: at.host.clone(),
        port: at.port,
        tls: match at.tls {
            Tls::None => smtp::Tls::None,
            Tls::Starttls => smtp::Tls::Starttls,
            Tls::Implicit => smtp::Tls::Implicit,
        },
        username: at.username.clone(),
        password: at.password.clone(),
        ca_file: at.ca_file.clone(),
        hello: from.hello.clone(),
        sessions: from.sessions,
        idle: from.idle,
        messages_per_connection: from.messages_per_connection,
        timeouts: smtp::Timeouts {
            connect: times.connect,
            greeting: times.greeting,
            hello: times.hello,
            mail: times.mail,
            rcpt: times.rcpt,
            data: times.data,
            body: times.body,
            dot: times.dot,
        },
    }
}

/// Returns the name of the installation's trail.
pub(super) fn origin(config: &Config) -> String {
    let url = &config.server.public_url;
    let host = url.split_once("://").map_or(url.as_str(), |(_, host)| host);
    let default = || format!("{}/confirmd", host.replace(':', "-"));
    config.trail.origin.clone().unwrap_or_else(default)
}

/// Translates what flows are told.
pub(super) fn settings(config: &Config) -> Settings {
    let times = &config.smtp.timeouts;
    Settings {
        limits: config.limits.mails.clone(),
        exempt: config.limits.exempt.clone(),
        keep_ip: config.evidence.ip,
        keep_user_agent: config.evidence.user_agent,
        lease_margin: config.delivery.lease_margin,
        // a relay that takes commands at once is sent DATA with the first
        after_data: times.mail + times.rcpt + times.data + times.body + times.dot,
        keep_network: config.evidence.keep_network,
        keep_requests: config.idempotency.keep,
        origin: origin(config),
    }
}

/// Translates the places outside of `[trail]`.
pub(super) fn outlets(config: &Config) -> outlets::Settings {
    let from = &config.trail;
    outlets::Settings {
        command: from.command.clone(),
        endpoint: from.endpoint.clone(),
        ca_file: from.ca_file.clone(),
        stamp: from.stamp.clone(),
        timeout: from.timeout,
    }
}
