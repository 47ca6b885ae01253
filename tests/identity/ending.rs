//! How a device is shut out again.

use super::*;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_revoked_device_gets_no_further_answer_on_the_connection_it_has() {
    let tls = tls_pool().await;
    let device = tls.device("acme", "cam-1").await;
    let mut client = device.connect(&tls.pool).await;
    assert!(list(&mut client).await.unwrap() > 0);
    let name = DeviceName::new("acme", "cam-1").unwrap();
    let set = |revoked| millgate_cloud::identity::devices::set_revoked(&tls.state(), &name, revoked).unwrap();
    assert!(set(Some(system_tests::enrolled::now())));
    until(&mut client, |answer| {
        answer.as_ref().is_err_and(|status| {
            status.code() == Code::PermissionDenied && status.message().contains("acme/cam-1 is revoked")
        })
    })
    .await;
    // Another one is not touched by it, and this one comes back.
    let mut other = tls.device("acme", "cam-2").await.connect(&tls.pool).await;
    assert!(list(&mut other).await.unwrap() > 0);
    assert!(set(None));
    until(&mut client, Result::is_ok).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_device_that_another_authority_signed_is_let_in_and_revoked_by_its_name() {
    let elsewhere = Elsewhere::new();
    let tls = tls_pool_with(|config, dir| {
        std::fs::write(dir.join("devices.pem"), &elsewhere.pem).unwrap();
        config.tls.client_ca = vec![dir.join("devices.pem")];
    })
    .await;
    let (device, (chain, key)) = (Device::new(), elsewhere.device("urn:millgate:device:acme:cam-7", -1, 30));
    device.store().write_key(&key).unwrap();
    std::fs::write(device.store().certificate(), chain).unwrap();
    std::fs::copy(tls.state_dir().join("ca.pem"), device.store().authorities_file()).unwrap();
    let mut client = device.connect(&tls.pool).await;
    assert!(list(&mut client).await.unwrap() > 0);
    let name = DeviceName::new("acme", "cam-7").unwrap();
    let set = |revoked| millgate_cloud::identity::devices::set_revoked(&tls.state(), &name, revoked).unwrap();
    assert!(!set(Some(system_tests::enrolled::now())));
    until(&mut client, |answer| {
        answer.as_ref().is_err_and(|status| {
            status.code() == Code::PermissionDenied && status.message().contains("acme/cam-7 is revoked")
        })
    })
    .await;
    assert!(set(None));
    until(&mut client, Result::is_ok).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_certificate_that_ends_ends_its_calls_on_the_connection_it_has() {
    let (tls, device) = (tls_pool().await, Device::new());
    signed_ago(&tls, &device, HOUR, HOUR + Duration::from_secs(4));
    let mut client = device.connect(&tls.pool).await;
    assert!(list(&mut client).await.unwrap() > 0);
    until(&mut client, |answer| {
        answer.as_ref().is_err_and(|status| {
            status.code() == Code::Unauthenticated && status.message().contains("acme/cam-1 ended on")
        })
    })
    .await;
}
