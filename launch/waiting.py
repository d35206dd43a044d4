"""Why a job waits: Slurm's own word for it, and what to do where waiting alone doesn't help."""

import re

from launch.slurm_commands import HELD_STATES, Job

# Slurm's words are those of slurm.schedmd.com/job_reason_codes.html, and sentences of its own such as `launch failed
# requeued held`. What isn't here ends by itself: Resources, Priority, Dependency, limits on what runs at the same time.
_AGAIN = "cancel it (--cancel), and submit it again (--retry-failed) with"
_ADVICE = (
    (r"JobHeldAdmin", "an administrator holds it; ask for its release"),
    (
        "|".join([r"JobHeldUser|JobHoldMaxRequeue|.*\bheld\b.*", *HELD_STATES]),
        "it is held until someone runs: scontrol release {job}",
    ),
    (
        r"PartitionTimeLimit|\w+MaxWallDurationPerJobLimit",
        f"it asks for more time than is allowed; {_AGAIN} fewer resources.hours, or another partition or QOS",
    ),
    (
        r"InvalidAccount|InvalidQOS|AccountNotAllowed|QOSNotAllowed|ReservationDeleted",
        f"it never starts so; {_AGAIN} another account, QOS or reservation (--sbatch account=...)",
    ),
    (
        r"PartitionNodeLimit|PartitionConfig|BadConstraints|MaxMemPerLimit|QOSMin\w+|\w+Max\w+Per(Job|Node)(Limit)?",
        f"it asks for what it can't get here; {_AGAIN} other resources, or another partition",
    ),
    (
        r"(Assoc|QOS)Grp\w*(?<!Run)Minutes(Limit)?|AssociationTimeLimit|QOSTimeLimit|QOSUsageThreshold",
        "the time granted to the account or QOS is used up; ask for more, or submit with another account",
    ),
    (
        r"PartitionDown|PartitionInactive|NodeDown|FrontEndDown|ReqNodeNotAvail.*|Reservation",
        "nodes are down or reserved (sinfo -R says why); before a maintenance, only a job that ends in time starts",
    ),
    (r"DependencyNeverSatisfied|DeadLine", "it never starts; cancel it (--cancel)"),
)


def describe_waiting(job: Job, number: str) -> str | None:
    """Return why a job waits, or is suspended, and what to do about it; None where Slurm gives no reason.

    `number`: the job's id, or its array task's (`12_3`).
    """
    if not job.known:
        return f"Slurm's word for its job is {job.state}, which isn't known here; scancel {number} ends the job"
    if job.suspended:
        return f"its job is {job.state}, until Slurm or someone resumes it (scontrol resume {number})"
    reason = job.state if job.state in HELD_STATES else job.reason
    if reason in ("", "None"):
        return None
    advice = next((text for words, text in _ADVICE if re.fullmatch(words, reason)), None)
    return f"{reason}: {advice.format(job=number)}" if advice else reason
