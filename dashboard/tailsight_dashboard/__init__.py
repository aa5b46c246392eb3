"""The dashboard: Streamlit views and Plotly charts of what `tailsight_analysis` answers. No SQL and no statistics here.

`launch` says how to start it; `app` is the script that Streamlit runs.
"""
