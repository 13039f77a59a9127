"""Every sentence the reports say by themselves, in English and Chinese.

Reasons, step names and findings are quoted as they were recorded. Codes, JSON keys and outcome words
stay English in both languages, so that two people who talk about a run use the same word.
"""

from __future__ import annotations

from collections.abc import Mapping

LANGUAGES = ("en", "zh")

MESSAGES: Mapping[str, tuple[str, str]] = {
    # --- how a run ended
    "recovered": ("recovered", "已恢复 (recovered)"),
    "self_healed": ("self_healed", "已自愈 (self_healed)"),
    "rolled_back": ("rolled_back", "已回退 (rolled_back)"),
    "failed": ("failed", "失败 (failed)"),
    "refused": ("refused", "被拒绝 (refused)"),
    "unknown": ("unknown", "结果未知 (unknown)"),
    "dry_run": ("dry_run", "演练完成,未改动 (dry_run)"),
    "cancelled": ("cancelled", "已取消 (cancelled)"),
    # --- phases
    "precheck": ("precheck", "预检"),
    "snapshot": ("snapshot", "快照"),
    "apply": ("apply", "处置"),
    "verify": ("verify", "验证"),
    "rollback": ("rollback", "回退"),
    "close": ("close", "归档"),
    "verify_rollback": ("verify rollback", "验证回退"),
    # --- live lines
    "accepted": ("accepted", "受理"),
    "live_accepted": ("{code} on {target}, asked for by {actor}", "{code},目标 {target},请求人 {actor}"),
    "decision": ("decision", "裁决"),
    "live_run": ("may run: {reason}", "准许执行:{reason}"),
    "live_hold": ("held: {reason}", "等待审批:{reason}"),
    "live_refuse": ("refused: {reason}", "拒绝:{reason}"),
    "approval": ("approval", "审批"),
    "live_waits": ("a second person has to decide before {until}", "须由第二人在 {until} 前决定"),
    "live_granted": ("granted by {who}{reason}", "{who} 已批准{reason}"),
    "live_rejected": ("rejected by {who}{reason}", "{who} 已驳回{reason}"),
    "live_expired": ("nobody decided in time, which counts as no", "逾期无人决定,视为不批准"),
    "start": ("start", "开始"),
    "live_start": (
        "tier {tier}, risk {risk}; looking from {vantage}",
        "等级 {tier},风险 {risk};观察点 {vantage}",
    ),
    "live_start_check": ("dry run: nothing will be changed", "演练:不做任何改动"),
    "resumed": ("resumed", "续行"),
    "live_resumed": ("goes on after an interruption, from what is recorded", "中断后按记录继续"),
    "live_begins": ("begins", "开始"),
    "live_begins_again": ("begins, attempt {attempt}", "开始,第 {attempt} 次"),
    "live_ended": ("{status} after {took}{changed}{reason}", "{status},用时 {took}{changed}{reason}"),
    "live_changed": (", changed", ",有改动"),
    "live_verified": (
        "proved from {vantage}: {good} of {total} samples good",
        "{vantage} 处证实:{total} 次观测中 {good} 次正常",
    ),
    "live_not_verified": (
        "not proved from {vantage}: {good} of {total} samples good{bad}",
        "{vantage} 处未能证实:{total} 次观测中 {good} 次正常{bad}",
    ),
    "cancel": ("cancel", "取消"),
    "live_cancel": (
        "asked for by {who}{reason}; the run stops before its next step",
        "{who} 要求取消{reason};将在下一步之前停止",
    ),
    "escalated": ("escalated", "上报"),
    "live_escalated": ("a person has to take over: {reason}", "须由人工接手:{reason}"),
    "override": ("override", "越权"),
    "live_override": (
        "break-glass by {who}: {reason}; somebody else has to review this run",
        "{who} 紧急越权:{reason};须由他人复核",
    ),
    "reviewed": ("reviewed", "复核"),
    "live_reviewed": ("break-glass reviewed by {who}{reason}", "{who} 已复核紧急越权{reason}"),
    # --- the last lines of a run
    "state": ("state", "状态"),
    "restored": ("restored", "恢复用时"),
    "end_restored": ("{took} after the request", "请求后 {took}"),
    "next": ("next", "下一步"),
    "next_decide": (
        "a second person with an approver's token decides (in REMEDIATE_TOKEN or REMEDIATE_TOKEN_FILE):",
        "须由持审批令牌的第二人决定(令牌置于 REMEDIATE_TOKEN 或 REMEDIATE_TOKEN_FILE):",
    ),
    "next_alone": (
        "alone on call: the same `run` with --break-glass --reason TEXT; somebody reviews it later",
        "独自值班:同一 `run` 命令加 --break-glass --reason TEXT;事后由他人复核",
    ),
    "next_explain": ("{command}   (every guard's word)", "{command}   (逐条查看安全规则)"),
    "next_rolled_back": (
        "the fault is still there; see why the fix did not help: {show}",
        "故障仍在;查看处置为何无效:{show}",
    ),
    "next_look": (
        "look at {target} yourself, now; what was done and seen: {show}",
        "请立即人工检查 {target};已做与所见:{show}",
    ),
    "next_unreachable": (
        "see whether {target} answers, then run it again; the record: {show}",
        "先确认 {target} 可达,再重新执行;记录:{show}",
    ),
    # --- the run report
    "report_run": ("Run", "运行记录"),
    "plan": ("plan", "预案"),
    "plan_version": ("plan version", "预案版本"),
    "plan_hash": ("plan hash", "预案哈希"),
    "case": ("case", "事件"),
    "code": ("code", "故障码"),
    "target": ("target", "目标"),
    "touches": ("also touches", "同时涉及"),
    "vantage": ("looked at from", "观察点"),
    "params": ("parameters", "参数"),
    "tier_risk": ("tier, risk", "等级、风险"),
    "armed": ("armed {level}", "授权级别 {level}"),
    "asked_by": ("asked by", "请求人"),
    "asked_reason": ("asked because", "请求理由"),
    "mode": ("mode", "方式"),
    "mode_check": ("dry run", "演练"),
    "mode_break_glass": ("break-glass", "紧急越权"),
    "approved_by": ("approved by", "批准人"),
    "nobody_needed": ("nobody had to approve", "无需审批"),
    "none_yet": ("nobody yet", "尚无人批准"),
    "outcome": ("outcome", "结果"),
    "reason": ("reason", "原因"),
    "open": ("open ({state})", "进行中 ({state})"),
    "times": ("Times", "时间"),
    "fault_at": ("fault", "故障发生"),
    "detected_at": ("detected", "发现"),
    "accepted_at": ("accepted", "受理"),
    "decided_at": ("decided", "裁决"),
    "started_at": ("started", "开始"),
    "restored_at": ("restored", "恢复"),
    "ended_at": ("ended", "结束"),
    "after": ("+{took}", "+{took}"),
    "guards": ("Guards", "安全规则"),
    "guards_passed": ("{count} passed or did not apply: {names}", "{count} 条通过或不适用:{names}"),
    "phases": ("Phases", "阶段"),
    "no_phase": ("none was begun; nothing was changed", "未开始任何阶段,未做改动"),
    "phase_line": ("{state} after {took}{changed}", "{state},用时 {took}{changed}"),
    "sample_ok": ("good", "正常"),
    "sample_bad": ("BAD", "异常"),
    "sample": (
        "{verdict}: {name}: expected {expected}, found {observed}",
        "{verdict}:{name}:应为 {expected},实为 {observed}",
    ),
    "finding": ("note: {text}", "备注:{text}"),
    "rollback_title": ("Rollback", "回退"),
    "rollback_not_needed": ("not needed", "无需回退"),
    "rollback_proved": (
        "carried out, and the state before is proved to be back",
        "已执行,并证实恢复到处置前状态",
    ),
    "rollback_not_proved": (
        "carried out, but NOT proved: look at the target yourself",
        "已执行,但未能证实:请人工检查目标",
    ),
    "people": ("People", "人员决定"),
    "audit": ("Audit trail", "审计"),
    "audit_entries": ("entries {first} to {last}", "条目 {first} 至 {last}"),
    "audit_checkpoint": ("signed by the checkpoint at size {size}", "由长度 {size} 处的检查点签名"),
    "audit_unsigned": ("not signed by a checkpoint yet", "尚无检查点签名"),
    "unknown_state": ("nothing is known about how it ended", "不知其如何结束"),
}


def say(lang: str, key: str, **values: object) -> str:
    """The sentence of that key in that language, with its fields filled in."""
    text = MESSAGES[key][LANGUAGES.index(lang)]
    return text.format(**values) if values else text
