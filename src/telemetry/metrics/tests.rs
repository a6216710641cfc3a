//! The text that monitoring reads.

use super::*;

#[test]
fn every_metric_is_written_with_its_labels() {
    let metrics = Metrics::new(1_700_000_000);
    metrics.signup_accepted("acme");
    metrics.signup_withheld("hold");
    metrics.message("confirmation", "sent");
    metrics.confirm();
    metrics.decline("not_me");
    metrics.unsubscribe("one_click");
    metrics.unsubscribe_repeated();
    let brew = Method::from_bytes(b"BREW").unwrap();
    metrics.request(
        "unmatched".into(),
        &brew,
        StatusCode::NOT_FOUND,
        Duration::from_millis(3),
    );
    metrics.smtp_failure("rcpt", "transient");
    metrics.relay_alarm("smtp", true);
    metrics.relay_paused("smtp", true);
    metrics.queue_depth("queued", 7);
    metrics.queue_oldest(Duration::from_millis(1500));
    metrics.trail_events(9);
    metrics.unsequenced_events(3);
    metrics.checkpoint(8, 1_700_000_060);
    metrics.trail_alarm(true);
    metrics.clock_alarm(true);
    metrics.checkpoint_copy("endpoint", "failed");
    metrics.gate_waiting(2);
    metrics.log_pages(5);
    metrics.disk(4096, true);
    let text = metrics.encode();
    for line in [
        "process_start_time_seconds 1700000000",
        "confirmd_signups_accepted_total{sender=\"acme\"} 1",
        "confirmd_signups_withheld_total{reason=\"hold\"} 1",
        "confirmd_messages_total{kind=\"confirmation\",outcome=\"sent\"} 1",
        "confirmd_confirms_total 1",
        "confirmd_declines_total{how=\"not_me\"} 1",
        "confirmd_unsubscribes_total{how=\"one_click\"} 1",
        "confirmd_unsubscribes_repeated_total 1",
        "confirmd_http_requests_total{route=\"unmatched\",method=\"other\",status_class=\"4xx\"} 1",
        "confirmd_http_request_duration_seconds_bucket{le=\"0.005\",route=\"unmatched\"} 1",
        "confirmd_smtp_phase_failures_total{phase=\"rcpt\",class=\"transient\"} 1",
        "confirmd_relay_alarm{relay=\"smtp\"} 1",
        "confirmd_relay_paused{relay=\"smtp\"} 1",
        "confirmd_queue_depth{state=\"queued\"} 7",
        "confirmd_queue_oldest_seconds 1.5",
        "confirmd_trail_events 9",
        "confirmd_unsequenced_events 3",
        "confirmd_checkpoint_size 8",
        "confirmd_checkpoint_timestamp_seconds 1700000060",
        "confirmd_trail_alarm 1",
        "confirmd_checkpoint_copies_total{outlet=\"endpoint\",outcome=\"failed\"} 1",
        "confirmd_gate_waiting 2",
        "confirmd_sqlite_log_pages 5",
        "confirmd_sqlite_disk_free_bytes 4096",
        "confirmd_sqlite_disk_alarm 1",
        "confirmd_clock_alarm 1",
        "# EOF",
    ] {
        assert!(
            text.lines().any(|found| found == line),
            "{line} is missing in\n{text}"
        );
    }
}

#[test]
fn metrics_of_two_instances_are_apart() {
    let (one, two) = (Metrics::new(0), Metrics::new(0));
    one.confirm();
    assert!(two.encode().contains("confirmd_confirms_total 0"));
}
