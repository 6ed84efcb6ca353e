"""RunPod's misfortunes, numbered as in the README. What each does is up to the code that asks for it."""

from bareboat.simulation import faults
from bareboat.simulation.faults import When

Kind = faults.Kind

CATALOGUE = faults.Catalogue(
    (
        Kind(1, "capacity", When.CHANCE, 0.05, {"text": ""}, "a create is refused for want of stock"),
        Kind(2, "offer_gone", When.CHANCE, 0.02, {}, "others take all that the catalogue still shows"),
        Kind(3, "over_constrained", When.CHANCE, 0.0, {}, "a create is refused: no machine could ever match"),
        Kind(4, "create_error", When.CHANCE, 0.01, {"status": 500}, "create answers 5xx and nothing happened"),
        Kind(
            5,
            "create_lost_answer",
            When.CHANCE,
            0.008,
            {"how": "500", "lag_s": (0, 5)},
            "create is applied, its answer is lost (how: 500, 502, 504, drop, hang, empty)",
        ),
        Kind(6, "list_lag", When.CHANCE, 0.2, {"for_s": (1, 5)}, "lists and reads show a new pod late"),
        Kind(7, "rate_limited", When.CHANCE, 0.0, {"after_s": 5}, "429 though the client kept within its quota"),
        Kind(8, "bad_gateway", When.CHANCE, 0.003, {"status": 502}, "an HTML page from whatever stands in front"),
        Kind(
            9,
            "slow_answer",
            When.CHANCE,
            0.005,
            {"for_s": (5, 60)},
            "the answer takes long",
        ),
        Kind(10, "drift", When.CHANCE, 0.5, {}, "a record has other field names, types and nulls than described"),
        Kind(11, "ports_late", When.CHANCE, 0.5, {"for_s": (2, 20), "never": 0.01}, "running, without ports yet"),
        Kind(12, "host_silent", When.CHANCE, 0.015, {}, "RUNNING, but nothing ever starts: no runtime, no logs"),
        Kind(13, "boot_stuck", When.CHANCE, 0.01, {"stage": "pulling"}, "the pull never ends"),
        Kind(
            14,
            "pull_error",
            When.CHANCE,
            0.005,
            {"message": "", "after_s": (4, 60)},
            "the image can't be had: EXITED by Runpod",
        ),
        Kind(15, "oci_error", When.CHANCE, 0.005, {"message": ""}, "the container can't be created: ERROR"),
        Kind(16, "process_exits", When.CHANCE, 0.0, {"code": 1, "after_s": (1, 60)}, "the workload ends by itself"),
        Kind(
            17, "start_refused", When.CHANCE, 0.2, {"zero_gpus": 0.3}, "start after stop: refused, or no GPU comes back"
        ),
        Kind(
            18,
            "outbid",
            When.HAZARD,
            0.05,
            {"resume": 0.0, "resume_after_s": 3600},
            "spot pods alone: EXITED or TERMINATED with the word Outbid",
        ),
        Kind(19, "pod_vanishes", When.HAZARD, 0.002, {}, "the host fails: 404 without a warning"),
        Kind(20, "credit_exhausted", When.SCENARIO, 0.0, {}, "the balance is zero: everything is stopped by Runpod"),
        Kind(21, "stale_runtime", When.CHANCE, 0.5, {"for_s": 30}, "an EXITED pod still shows its runtime"),
        Kind(22, "runtime_blip", When.CHANCE, 0.01, {}, "a running pod is read without its runtime"),
        Kind(
            23,
            "destroy_fails",
            When.CHANCE,
            0.01,
            {"how": "any", "for_s": (5, 60)},
            "DELETE: 404 or 500 `pod not found to terminate`, or 204 and it lives on (404, 500, lingers, alive)",
        ),
        Kind(24, "key_revoked", When.SCENARIO, 0.0, {}, "the API key is no longer known"),
        Kind(25, "restart_ignored", When.CHANCE, 0.05, {}, "restart does nothing"),
        Kind(26, "stream_drops", When.CHANCE, 0.02, {"lines": (1, 20)}, "the log stream breaks off after some lines"),
        Kind(27, "ip_changes", When.HAZARD, 0.0005, {}, "address and ports change, in Community Cloud"),
        Kind(28, "price_differs", When.CHANCE, 0.03, {"by": (-0.1, 0.1)}, "a pod costs other than the catalogue said"),
        Kind(29, "list_ghost", When.CHANCE, 0.05, {"for_s": (1, 5)}, "the list shows a deleted pod for a while"),
        Kind(30, "pod_ends", When.SCENARIO, 0.0, {}, "somebody deletes a pod elsewhere"),
        Kind(31, "v1_retired", When.SCENARIO, 0.0, {"status": 410}, "REST v1 is switched off for good"),
        Kind(34, "login_late", When.CHANCE, 0.5, {"for_s": (0, 240)}, "a new registry login works after a while only"),
        Kind(33, "answer_cut", When.CHANCE, 0.002, {}, "an answer ends in the middle of its JSON"),
        Kind(32, "ssh_late", When.CHANCE, 0.3, {"for_s": (1, 30), "never": 0.01}, "sshd answers late, or never"),
    ),
    quirks=("list_lag", "ports_late", "drift", "stale_runtime", "runtime_blip"),
)
