"""One meaning, one colour, on every board."""

GREEN, BLUE, YELLOW, ORANGE, RED = "#73BF69", "#5794F2", "#F2CC0C", "#FF9830", "#F2495C"
PURPLE, GREY = "#B877D9", "#8E8E96"

SEVERITY = {"info": BLUE, "warning": YELLOW, "error": ORANGE, "critical": RED}
DEVICE_STATE = {"quiet": GREEN, **SEVERITY, "silent": PURPLE}
LEVEL = {"none": GREEN, "blue": BLUE, "yellow": YELLOW, "orange": ORANGE, "red": RED}
PRIORITY = {"P1": RED, "P2": ORANGE, "P3": YELLOW, "P4": BLUE}
ALERT_STATE = {"firing": RED, "acknowledged": BLUE, "resolved": GREEN}
ORDER_STATE = {"open": RED, "assigned": ORANGE, "in_progress": BLUE, "done": GREEN}
DETECTOR = {
    "fault_rule": ORANGE,
    "failure_risk": RED,
    "usage_drop": BLUE,
    "silence": PURPLE,
    "site_offline": GREY,
}
MODEL = {
    "mri": "#5794F2",
    "ct": "#B877D9",
    "ultrasound": "#73BF69",
    "ventilator": "#FF9830",
    "infusion_pump": "#F2CC0C",
    "ivd": "#8AB8FF",
}

DECLINE_STEPS = ((None, GREEN), (10.0, BLUE), (15.0, YELLOW), (25.0, ORANGE), (35.0, RED))
"""The churn levels, by decline of a customer's health in percent of its own baseline."""
GOOD_SHARE_STEPS = ((None, RED), (50.0, ORANGE), (70.0, YELLOW), (85.0, GREEN))
"""For shares in percent of which more is better."""
ANY_IS_BAD_STEPS = ((None, GREEN), (1.0, RED))
"""For counts of what should not be."""
